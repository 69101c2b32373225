//! The amounts of work that the functions of `roofline` report.

use proptest::prelude::*;
use slth_kernels::roofline;

use crate::support::{Guarded, cases, everywhere, numbers, offset, size};

proptest! {
    #![proptest_config(cases(32))]

    #[test]
    fn reading(len in size(3000), numbers in numbers(), offset in offset()) {
        let data = Guarded::of(&numbers.take(len, 0), offset);
        let expected = data.iter().fold(0, |all, x| all ^ x.to_bits());
        everywhere(|engine| assert_eq!(roofline::read(engine, &data), expected));
    }

    #[test]
    fn work_grows_with_the_rounds(rounds in 0..500_u64) {
        prop_assert_eq!(roofline::chain_of_cycles(rounds), 6 * rounds);
        everywhere(|engine| {
            assert_eq!(roofline::fma_peak(engine, rounds), rounds * roofline::fma_peak(engine, 1));
            assert_eq!(roofline::add_min_work(engine, rounds), rounds * roofline::add_min_work(engine, 1));
        });
    }
}
