//! The machine's limits: multiply-adds in registers, reads from each level of the memory, the clock.

use std::sync::Arc;

use crate::aligned::Aligned;
use crate::case::{Case, Scale};
use crate::limits::{clock, multiply_adds, read};
use crate::row::Unit;
use crate::task::{Limit, Roofline, Task};

pub(super) fn cases(scale: Scale) -> Vec<Case> {
    let kib: &[usize] = match scale {
        Scale::Smoke => &[16],
        Scale::Quick => &[16, 256, 4096, 262_144],
        Scale::Full => &[8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384, 65_536, 262_144],
    };
    let task = |operation, bytes| Task::Roofline(Roofline { operation, bytes });
    let mut cases = vec![
        Case::new(task(Limit::MultiplyAdd, None), |machinery, _| {
            Ok(multiply_adds(machinery, Unit::Flop, 1.0))
        }),
        Case::new(task(Limit::Clock, None), |machinery, _| Ok(vec![clock(machinery)])),
    ];
    cases.extend(kib.iter().map(|&kib| {
        let bytes = 1024 * kib;
        Case::new(task(Limit::Read, Some(bytes)), move |machinery, _| {
            let data = Arc::new(Aligned::filled(bytes / size_of::<f32>(), 1.0));
            Ok(read(machinery, &data, Unit::Byte, bytes as f64))
        })
    }));
    cases
}
