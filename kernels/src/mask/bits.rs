//! Words of bits: packed from booleans, unpacked, transposed.

/// A word with its lowest `count` bits set, all from 64 on.
#[inline(always)]
pub(super) fn low_bits(count: usize) -> u64 {
    if count < 64 { !(u64::MAX << count) } else { u64::MAX }
}

/// Packs 64 booleans into a word.
#[inline(always)]
pub(super) fn gather(tile: &[bool; 64]) -> u64 {
    let bytes: &[[u8; 8]; 8] = bytemuck::cast_ref(tile);
    bytes.iter().enumerate().fold(0, |word, (i, &eight)| {
        // Byte j is 0 or 1. Bit 56 − 7j of the factor moves it to bit j of the highest byte. The 64 partial products
        // have different places, so nothing carries.
        word | u64::from_le_bytes(eight).wrapping_mul(0x0102_0408_1020_4080) >> 56 << (8 * i)
    })
}

/// Unpacks the bits of a word.
#[inline(always)]
pub(super) fn spread(word: u64) -> [bool; 64] {
    let mut tile = [false; 64];
    for (eight, byte) in tile.as_chunks_mut().0.iter_mut().zip(word.to_le_bytes()) {
        *eight = BITS[usize::from(byte)];
    }
    tile
}

/// The bits of each byte, lowest first; 2 KiB, so the table stays in L1.
static BITS: [[bool; 8]; 256] = {
    let mut table = [[false; 8]; 256];
    let mut at = 0;
    while at < 256 * 8 {
        table[at / 8][at % 8] = (at / 8) >> (at % 8) & 1 != 0;
        at += 1;
    }
    table
};

/// Transposes a tile of bits by exchanging ever smaller off-diagonal squares (Warren, "Hacker's Delight", 7-3).
pub(super) fn transpose_tile(tile: &mut [u64; 64]) {
    let mut side = 32;
    let mut low = u64::from(u32::MAX);
    while side != 0 {
        for i in (0..64).filter(|i| i & side == 0) {
            let swap = (tile[i] >> side ^ tile[i + side]) & low;
            tile[i] ^= swap << side;
            tile[i + side] ^= swap;
        }
        side /= 2;
        low ^= low << side;
    }
}
