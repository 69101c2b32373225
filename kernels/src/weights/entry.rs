//! A kept weight as one integer: a single load brings value and place, which leaves the vector load ports to the activations.

/// The value's bits in the high half; in the low half the place of its activation: a column within a block, or an offset.
pub(crate) type Entry = u64;

#[inline(always)]
pub(crate) fn entry(place: usize, value: f32) -> Entry {
    u64::from(value.to_bits()) << 32 | place as u64
}

/// The place of the weight's activation.
#[inline(always)]
pub(crate) fn place(entry: Entry) -> usize {
    entry as u32 as usize
}

/// The weight.
#[inline(always)]
pub(crate) fn value(entry: Entry) -> f32 {
    f32::from_bits((entry >> 32) as u32)
}
