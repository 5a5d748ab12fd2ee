//! What the gateway understands of what models are asked: tensors (`tensor`), the Open Inference Protocol (`oip`), images (`image`), and
//! the way from what clients send to what models read and back (`conversion`); also JSON (`json_scan`) and images' heads (`image_head`)
//! that are judged as they pass by. Does no I/O, and routes nothing.

pub mod conversion;
pub mod image;
pub mod image_head;
pub mod json_scan;
pub mod oip;
pub mod tensor;
