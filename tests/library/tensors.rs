//! Reading safetensors files in pieces, including malformed ones.

use std::io::Write;

use safetensors::Dtype;
use slth::Error;
use slth::tensors::{TensorEntry, TensorFile, TensorProblem, encode};

/// A safetensors file: `header`, then `data`.
pub(crate) fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

/// A file of empty tensors with these names.
fn named(names: &[&str]) -> TensorFile {
    let entry = |name: &&str| format!(r#""{name}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#);
    let entries: Vec<_> = names.iter().map(entry).collect();
    TensorFile::parse(file(&format!("{{{}}}", entries.join(",")), &[])).unwrap()
}

#[test]
fn names_sort_naturally() {
    let names = ["fc10.weight", "fc2.weight", "fc1.weight", "a", "fc01.weight", "fc", "fc2", "layer.9.w", ""];
    let sorted =
        ["", "a", "fc", "fc01.weight", "fc1.weight", "fc2", "fc2.weight", "fc10.weight", "layer.9.w"];
    let file = named(&names);
    let mut tensors: Vec<&TensorEntry> = file.tensors().iter().collect();
    tensors.sort_by_key(|tensor| tensor.rank);
    assert_eq!(tensors.iter().map(|tensor| &*tensor.name).collect::<Vec<_>>(), sorted);
    assert_eq!(named(&["x00000000000000000000000002", "x1"]).tensors()[0].name, "x1");
}

#[test]
fn patterns_choose_tensors() {
    for (pattern, yes, no) in [
        ("a.weight", "a.weight", "b.weight"),
        ("*.weight", "a.weight", "a.weights"),
        ("layer.*.weight", "layer.1.weight", "layer.weight"),
        ("*a*a*", "baab", "bab"),
        ("a*a", "aa", "a"),
        ("a*bc*c", "abcc", "abc"),
        ("é*", "éa", "e"),
        ("*é", "aé", "é "),
        ("**", "", "-"),
    ] {
        let (file, pattern) = (named(&[yes, no]), [pattern.to_owned()]);
        let names = |chosen: Vec<&TensorEntry>| chosen.iter().map(|t| t.name.clone()).collect::<Vec<_>>();
        if pattern[0] != "**" {
            assert_eq!(names(file.chosen(Some(&pattern), None).unwrap()), [yes], "{pattern:?}");
            assert_eq!(names(file.chosen(None, Some(&pattern)).unwrap()), [no], "{pattern:?}");
        }
        assert!(matches!(file.chosen(Some(&pattern), Some(&["*".to_owned()])), Err(Error::Input(_))));
    }
    let typo = |field, found: Result<_, _>| match found {
        Err(Error::Config { field: at, problem }) => {
            assert!(at == field && problem.contains("`x*`"), "{problem}")
        }
        other => panic!("{other:?}"),
    };
    let file = named(&["y"]);
    typo("only", file.chosen(Some(&["y".to_owned(), "x*".to_owned()]), None));
    typo("skip", file.chosen(None, Some(&["x*".to_owned()])));
}

/// Every finite number of both types is read exactly. Numbers in between round to the nearest, ties to even.
#[test]
fn halves_round_to_nearest_even() {
    for (kind, name, infinity, [fraction, bias]) in
        [(Dtype::F16, "F16", 0x7c00_u16, [10, 15]), (Dtype::BF16, "BF16", 0x7f80, [7, 127])]
    {
        let header = format!(
            r#"{{"w":{{"dtype":"{name}","shape":[{infinity}],"data_offsets":[0,{}]}}}}"#,
            2 * infinity as u32
        );
        let bits: Vec<u8> = (0..infinity).flat_map(u16::to_le_bytes).collect();
        let numbers = TensorFile::parse(file(&header, &bits)).unwrap();
        let numbers = numbers.floats(&numbers.tensors()[0], 0..infinity.into()).unwrap();
        let round = |x: f64| {
            let mut bytes = Vec::new();
            encode(kind, x, &mut bytes);
            u16::from_le_bytes(bytes.try_into().unwrap())
        };
        for (bits, pair) in (0_u16..).zip(numbers.windows(2)) {
            let [x, next] = [pair[0], pair[1]].map(f64::from);
            let exponent = i32::from(bits >> fraction).max(1);
            let whole = i32::from(bits >> fraction > 0) << fraction | i32::from(bits) & ((1 << fraction) - 1);
            assert_eq!(x, f64::from(whole) * 2_f64.powi(exponent - bias - fraction), "{name} {bits:x}");
            assert_eq!([round(x), round(-x)], [bits, bits | 0x8000], "{name} {x}");
            let middle = (x + next) / 2.0;
            let found = [middle.next_down(), middle, middle.next_up()].map(round);
            assert_eq!(found, [bits, bits + (bits & 1), bits + 1], "{name} {middle}");
        }
        assert_eq!([round(f64::MAX), round(f64::MIN)], [infinity - 1, (infinity - 1) | 0x8000]);
        for (bits, value) in [(infinity, f32::INFINITY), (infinity | 0x8000, f32::NEG_INFINITY)] {
            let header = format!(r#"{{"w":{{"dtype":"{name}","shape":[2],"data_offsets":[0,4]}}}}"#);
            let words = [0x8000, bits].map(u16::to_le_bytes).concat();
            let tensors = TensorFile::parse(file(&header, &words)).unwrap();
            assert_eq!(tensors.floats(&tensors.tensors()[0], 0..1).unwrap()[0].to_bits(), 1 << 31);
            match tensors.floats(&tensors.tensors()[0], 1..2).unwrap_err().problem {
                TensorProblem::NotFinite { index: 1, value: found, .. } => assert_eq!(found, value),
                other => panic!("{other}"),
            }
        }
    }
    let mut bytes = Vec::new();
    encode(Dtype::F32, 1e300, &mut bytes);
    encode(Dtype::F64, 1e300, &mut bytes);
    assert_eq!(bytes, [&f32::MAX.to_le_bytes()[..], &1e300_f64.to_le_bytes()].concat());
}

/// Malformed headers are refused with a message before any memory is allocated for the promised data.
#[test]
fn hostile_headers_are_refused() {
    let entry = |shape: &str, offsets: &str| {
        format!(r#"{{"w":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    let huge = (u64::MAX / 8).to_string();
    for (header, data) in [
        (entry("[1]", "[0,4]"), 0),
        (entry("[1]", "[0,4]"), 8),
        (entry("[2]", "[0,4]"), 4),
        (entry("[1]", "[4,8]"), 8),
        (entry("[1]", "[4,0]"), 4),
        (entry("[-1]", "[0,4]"), 4),
        (entry("[1.5]", "[0,4]"), 4),
        (entry("[4294967296,4294967296,4294967296]", "[0,4]"), 4),
        (entry(&format!("[{huge}]"), &format!("[0,{huge}]")), 4),
        (entry(&format!("[{huge},{huge}]"), "[0,18446744073709551615]"), 4),
        (entry("[1]", "[0,4]").replace("F32", "F33"), 4),
        (entry("[1]", "[0,4]").replace("F32", "F4"), 4),
        (format!(r#"{{"a":{0},"b":{0}}}"#, r#"{"dtype":"U8","shape":[4],"data_offsets":[0,4]}"#), 4),
        (
            format!(
                r#"{{"a":{0},"a":{1}}}"#,
                r#"{"dtype":"U8","shape":[2],"data_offsets":[0,2]}"#,
                r#"{"dtype":"U8","shape":[2],"data_offsets":[2,4]}"#
            ),
            4,
        ),
        ("[".repeat(100_000), 4),
        (r#"{"w":"#.repeat(10_000), 4),
        (r#"{"__metadata__":{"x":1}}"#.to_owned(), 0),
        ("[]".to_owned(), 0),
        (String::new(), 0),
    ] {
        let text = header.chars().take(200).collect::<String>();
        match TensorFile::parse(file(&header, &vec![0; data])) {
            Err(TensorProblem::Format(_)) => {}
            other => panic!("{text}: {other:?}"),
        }
    }
    for bytes in [&[][..], &[1; 7], &[0xff; 8], &[0xff; 64], &1_000_000_u64.to_le_bytes()] {
        assert!(matches!(TensorFile::parse(bytes.to_vec()), Err(TensorProblem::Format(_))), "{bytes:?}");
    }
    // A header longer than the file; then, in a sparse file, one longer than the limit.
    let mut long = tempfile::NamedTempFile::new().unwrap();
    long.write_all(&200_000_000_u64.to_le_bytes()).unwrap();
    assert!(TensorFile::open(long.path()).unwrap_err().to_string().contains("header"));
    long.as_file().set_len(300_000_000).unwrap();
    assert!(TensorFile::open(long.path()).unwrap_err().to_string().contains("header too large"));
    // If one size is 0, the others do not matter.
    for shape in ["[0]", "[0,9223372036854775807,9223372036854775807]", "[3,0]"] {
        let empty = TensorFile::parse(file(&entry(shape, "[0,0]"), &[])).unwrap();
        let tensor = &empty.tensors()[0];
        assert_eq!((tensor.elements(), tensor.row(), empty.floats(tensor, 0..0).unwrap().len()), (0, 0, 0));
    }
    // A file truncated after it was opened.
    let mut cut = tempfile::NamedTempFile::new().unwrap();
    cut.write_all(&file(&entry("[2]", "[0,8]"), &[0; 8])).unwrap();
    let tensors = TensorFile::open(cut.path()).unwrap();
    cut.as_file().set_len(20).unwrap();
    let error = tensors.floats(&tensors.tensors()[0], 0..2).unwrap_err();
    assert!(matches!(error.problem, TensorProblem::Io(_)) && error.to_string().contains(&*error.file));
}
