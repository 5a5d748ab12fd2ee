//! What is decided about a request before it is sent on: who asks (`identity`, by `jwt` and `claims`), and how often anybody
//! may (`rate_limit`), how often in a day and in a month (`quota`), and how many at once (`concurrency`). Decides, and does no I/O.

pub mod addresses;
pub mod api_key;
pub mod breaker;
pub mod calendar;
pub mod certificate;
pub mod claims;
pub mod concurrency;
pub mod identity;
pub mod jwt;
pub mod memory;
pub mod quota;
pub mod rate_limit;
pub mod rollback;
pub mod window;
