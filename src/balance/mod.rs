//! Owns which endpoint gets a request, and the connections that wait for the next one. Reads no request
//! bytes and sends none.

pub mod hash;
pub mod health;
pub mod in_flight;
pub mod outlier;
pub mod pick;
pub mod pool;
pub mod view;
