//! What the gateway understands of what models are asked: tensors (`tensor`), JSON (`json_scan`) and images (`image_head`), judged as they
//! pass by. Does no I/O, and routes nothing.

pub mod image;
pub mod image_head;
pub mod json_scan;
pub mod oip;
pub mod tensor;
