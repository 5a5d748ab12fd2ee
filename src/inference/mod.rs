//! What the gateway understands of what models are asked: JSON, judged as it passes by (`json_scan`). Does no I/O, and routes nothing.

pub mod json_scan;
