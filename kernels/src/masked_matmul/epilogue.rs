//! What happens to a result vector on its way from the accumulator to memory.

use crate::simd::Simd;

/// Applied once per output element, after its sum is complete.
#[derive(Clone, Copy)]
pub(crate) enum Epilogue<'a> {
    None,
    /// max(0, y); −0 and NaN become 0.
    Relu,
    /// 0 where this activation, at the output's own place, is not positive.
    ReluOf(&'a [f32]),
}

impl Epilogue<'_> {
    /// Applies it to a run of finished sums, the first of them at `at` in the output. A pass of its own over memory that
    /// was just written: carried into the accumulation loops it cost them their registers.
    #[inline(always)]
    pub(crate) fn apply<S: Simd>(self, s: S, sums: &mut [f32], at: usize) {
        let zero = s.splat(0.0);
        let (full, rest) = sums.split_at_mut(sums.len() / S::LANES * S::LANES);
        match self {
            Epilogue::None => {}
            Epilogue::Relu => {
                for part in full.chunks_exact_mut(S::LANES) {
                    s.store(s.max(s.load(part), zero), part);
                }
                if !rest.is_empty() {
                    s.store_partial(s.max(s.load_partial(rest), zero), rest);
                }
            }
            Epilogue::ReluOf(x) => {
                let (x, x_rest) = x[at..at + full.len() + rest.len()].split_at(full.len());
                for (part, x) in full.chunks_exact_mut(S::LANES).zip(x.chunks_exact(S::LANES)) {
                    s.store(s.select(s.gt(s.load(x), zero), s.load(part), zero), part);
                }
                if !rest.is_empty() {
                    let on = s.gt(s.load_partial(x_rest), zero);
                    s.store_partial(s.select(on, s.load_partial(rest), zero), rest);
                }
            }
        }
    }
}
