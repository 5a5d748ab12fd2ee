//! What the gateway understands of what models are asked: JSON (`json_scan`) and images (`image_head`), judged as they pass by. Does no
//! I/O, and routes nothing.

pub mod image_head;
pub mod json_scan;
