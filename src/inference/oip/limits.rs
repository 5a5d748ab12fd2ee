//! Owns how much a message may hold, whatever format it comes in. How long its body may be is the route's.

/// A message over one of these is refused (`refused::Kind::TooLarge`), before memory is set aside for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Arrays and objects around one another, in JSON.
    pub depth: u8,
    /// Inputs, and likewise outputs.
    pub tensors: usize,
    /// Of one tensor's shape.
    pub dimensions: usize,
    /// Of one tensor.
    pub elements: u64,
    /// Of all tensors together, as they are held here.
    pub data_bytes: u64,
    /// Of one message, and of one tensor.
    pub parameters: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            depth: 64,
            tensors: 256,
            dimensions: 32,
            elements: 1 << 28,
            data_bytes: 1 << 30,
            parameters: 256,
        }
    }
}
