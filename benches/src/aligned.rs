//! Inputs and outputs with the same alignment in every run.

use std::ops::{Deref, DerefMut};

/// Floats that begin on a cache line. Without this the number of loads that straddle two lines would depend on the alignment of
/// the allocation, which differs from run to run.
#[derive(Debug)]
pub(crate) struct Aligned {
    memory: Vec<f32>,
    start: usize,
    len: usize,
}

const LINE: usize = 64;

impl Aligned {
    pub(crate) fn filled(len: usize, value: f32) -> Self {
        (0..len).map(|_| value).collect()
    }
}

impl FromIterator<f32> for Aligned {
    fn from_iter<I: IntoIterator<Item = f32>>(floats: I) -> Self {
        let floats: Vec<f32> = floats.into_iter().collect();
        // The memory must not move after its start was computed.
        let mut memory: Vec<f32> = Vec::with_capacity(floats.len() + LINE / size_of::<f32>());
        let padding = memory.as_ptr().align_offset(LINE).min(LINE / size_of::<f32>());
        memory.resize(padding, 0.0);
        memory.extend_from_slice(&floats);
        Self { start: padding, len: floats.len(), memory }
    }
}

impl Deref for Aligned {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.memory[self.start..][..self.len]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.memory[self.start..][..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begins_on_a_line() {
        for len in [0, 1, 1000] {
            let floats: Aligned = (0..len).map(|i| i as f32).collect();
            assert_eq!((floats.as_ptr().align_offset(LINE), floats.len()), (0, len));
            assert!(floats.iter().enumerate().all(|(i, &x)| x == i as f32));
        }
    }
}
