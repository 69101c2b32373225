//! Safetensors files: read tensor by tensor and in pieces, so that memory stays bounded; written in the order of their tensors.

mod encoding;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use safetensors::tensor::{Metadata, TensorInfo, TensorView};
use safetensors::{Dtype, SafeTensorError};
use serde::Serialize;
use slth_kernels::PackedMask;

use crate::error::Error;
use crate::input::FileError;
use crate::network::LayerShape;

pub use encoding::encode;
pub(crate) use encoding::{finite, little_endian, mask_bytes};

/// Why a safetensors file cannot be used.
pub type TensorError = FileError<TensorProblem>;

/// What is wrong with a safetensors file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TensorProblem {
    /// The system refused to read, or it is a directory, a device or a pipe.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is damaged, or of another format.
    #[error("not a valid safetensors file: {0}")]
    Format(#[from] SafeTensorError),
    /// A weight is infinite or NaN.
    #[error("tensor `{name}`: element {index} is {value}")]
    NotFinite {
        /// The tensor.
        name: String,
        /// Which element.
        index: usize,
        /// Its value, in f32.
        value: f32,
    },
}

/// A safetensors file whose header was read and describes all of its bytes; numbers are read on demand.
///
/// ```
/// use slth::{approximate::Target, tensors::TensorFile};
/// let file: TensorFile = Target::draw("4-3-2".parse().unwrap(), 1).to_tensors();
/// let [first, _] = file.tensors() else { panic!() };
/// assert_eq!((first.name.as_str(), first.info.shape.as_slice()), ("layer1.weight", [3, 4].as_slice()));
/// assert_eq!(file.floats(first, 4..8)?.len(), 4); // the second row
/// # Ok::<(), slth::Error>(())
/// ```
#[derive(Debug)]
pub struct TensorFile {
    name: String,
    bytes: Bytes,
    /// Where the tensors begin.
    data: u64,
    /// Its metadata.
    pub metadata: BTreeMap<String, String>,
    tensors: Vec<TensorEntry>,
}

/// A tensor of a file.
#[derive(Clone, Debug)]
pub struct TensorEntry {
    /// Its name.
    pub name: String,
    /// Type of the elements, sizes, and the place of its bytes after the header.
    pub info: TensorInfo,
    /// Its place in the natural order of all tensors' names (`fc2` before `fc10`), from 0.
    pub rank: usize,
}

/// Numbers of a network, in one tensor or, pruned by PyTorch, in two.
#[derive(Clone, Copy, Debug)]
pub struct Parameter<'a> {
    /// What the network calls it.
    pub name: &'a str,
    /// The numbers.
    pub tensor: &'a TensorEntry,
    /// What they are multiplied by, where it was pruned: as many numbers, of floating point, U8 or BOOL.
    pub mask: Option<&'a TensorEntry>,
}

impl std::fmt::Display for Parameter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let TensorInfo { dtype, shape, .. } = &self.tensor.info;
        write!(f, "tensor `{}` ({dtype} {shape:?})", self.name)
    }
}

#[derive(Debug)]
enum Bytes {
    /// Locked, as a read moves the place of the next.
    File(Mutex<File>),
    Memory(Vec<u8>),
}

impl Bytes {
    fn read(&self, from: u64, bytes: &mut [u8]) -> io::Result<()> {
        match self {
            Self::File(file) => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.seek(SeekFrom::Start(from))?;
                file.read_exact(bytes)
            }
            Self::Memory(all) => {
                let from = all.get(usize::try_from(from).unwrap_or(usize::MAX)..).unwrap_or_default();
                (&mut &*from).read_exact(bytes)
            }
        }
    }
}

impl TensorEntry {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.info.shape.iter().product()
    }

    /// Elements of a row: those with the same first index. A vector and a number are one row.
    pub fn row(&self) -> usize {
        match *self.info.shape {
            [first, _, ..] => self.elements().checked_div(first).unwrap_or(0),
            _ => self.elements(),
        }
    }

    /// Whether its elements are F16, BF16, F32 or F64.
    pub fn is_float(&self) -> bool {
        matches!(self.info.dtype, Dtype::F16 | Dtype::BF16 | Dtype::F32 | Dtype::F64)
    }
}

impl TensorFile {
    /// Opens a file and reads its header: no more than 100 MB, and no more than the file has.
    ///
    /// # Errors
    /// When the file cannot be read, or its header is damaged or does not describe all of its bytes.
    pub fn open(file: impl AsRef<Path>) -> Result<Self, TensorError> {
        let path = file.as_ref();
        let open = || {
            let file = crate::input::open(path)?;
            let length = file.metadata()?.len();
            Self::new(path.display().to_string(), Bytes::File(Mutex::new(file)), length)
        };
        open().map_err(|problem| FileError { file: path.display().to_string(), problem })
    }

    /// A file in memory.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn parse(bytes: Vec<u8>) -> Result<Self, TensorProblem> {
        let length = bytes.len() as u64;
        Self::new("memory".to_owned(), Bytes::Memory(bytes), length)
    }

    fn new(name: String, bytes: Bytes, length: u64) -> Result<Self, TensorProblem> {
        let mut word = [0; 8];
        let room = length.checked_sub(8).ok_or(SafeTensorError::HeaderTooSmall)?;
        bytes.read(0, &mut word)?;
        let header = u64::from_le_bytes(word);
        let data_length = room.checked_sub(header).ok_or(SafeTensorError::InvalidHeaderLength)?;
        if header > 100_000_000 {
            return Err(SafeTensorError::HeaderTooLarge.into());
        }
        let mut json = vec![0; header as usize];
        bytes.read(8, &mut json)?;
        // Checks that sizes, types and places fit together and leave no gap.
        let header_of = |json: &[u8]| serde_json::from_slice::<Metadata>(json);
        let metadata = header_of(&json).map_err(SafeTensorError::InvalidHeaderDeserialization)?;
        if metadata.data_len() as u64 != data_length {
            return Err(SafeTensorError::MetadataIncompleteBuffer.into());
        }
        let entry = |(name, info): (String, &TensorInfo)| TensorEntry { name, info: info.clone(), rank: 0 };
        let mut tensors: Vec<_> = metadata.tensors().into_iter().map(entry).collect();
        tensors.sort_by(|a, b| natural(&a.name).cmp(&natural(&b.name)));
        tensors.iter_mut().enumerate().for_each(|(rank, tensor)| tensor.rank = rank);
        tensors.sort_by_key(|tensor| tensor.info.data_offsets);
        let entries = metadata.metadata().clone().unwrap_or_default().into_iter().collect();
        Ok(Self { name, bytes, data: 8 + header, metadata: entries, tensors })
    }

    /// Its tensors, in the order of their bytes.
    pub fn tensors(&self) -> &[TensorEntry] {
        &self.tensors
    }

    /// The tensors of floating-point numbers whose names match a pattern of `only`, where that is given, and none of `skip`. In
    /// a pattern `*` stands for any characters.
    ///
    /// # Errors
    /// When a pattern matches no such tensor, or no tensor is left.
    pub fn chosen(
        &self,
        only: Option<&[String]>,
        skip: Option<&[String]>,
    ) -> Result<Vec<&TensorEntry>, Error> {
        const KINDS: &str = "tensor of F16, BF16, F32 or F64";
        let all = || self.tensors.iter().filter(|tensor| tensor.is_float());
        for (field, patterns) in [("only", only), ("skip", skip)] {
            let unused = |pattern: &&String| !all().any(|tensor| matches(pattern, &tensor.name));
            if let Some(pattern) = patterns.unwrap_or_default().iter().find(unused) {
                return Err(Error::config(field, format!("no {KINDS} is called `{pattern}`")));
            }
        }
        let any = |patterns: &[String], name: &str| patterns.iter().any(|pattern| matches(pattern, name));
        let kept =
            |name: &str| only.is_none_or(|only| any(only, name)) && !skip.is_some_and(|skip| any(skip, name));
        let chosen: Vec<_> = all().filter(|tensor| kept(&tensor.name)).collect();
        let nothing = || io::Error::new(io::ErrorKind::InvalidData, format!("no {KINDS} is left to work on"));
        if chosen.is_empty() { Err(self.error::<TensorProblem>(nothing()).into()) } else { Ok(chosen) }
    }

    /// Elements of a tensor of floating-point numbers; those of f64 are rounded to f32. Reads no others.
    ///
    /// # Errors
    /// When the file cannot be read or an element is infinite or NaN.
    ///
    /// # Panics
    /// When the tensor has no such elements, or is of another type or file.
    pub fn floats(&self, tensor: &TensorEntry, elements: Range<usize>) -> Result<Vec<f32>, TensorError> {
        let size = tensor.info.dtype.bitsize() / 8;
        assert!(
            tensor.is_float() && elements.end <= tensor.elements(),
            "{tensor:?} has no floats {elements:?}"
        );
        let first = elements.start;
        let place = tensor.info.data_offsets.0 as u64 + (first * size) as u64;
        let bytes = self.read(place, elements.len() * size)?;
        finite(tensor.info.dtype, &bytes).map_err(|(index, value)| {
            self.error(TensorProblem::NotFinite { name: tensor.name.clone(), index: first + index, value })
        })
    }

    /// All bytes of a tensor.
    pub(crate) fn bytes(&self, tensor: &TensorEntry) -> Result<Vec<u8>, TensorError> {
        let (begin, end) = tensor.info.data_offsets;
        self.read(begin as u64, end - begin)
    }

    /// Its tensors in the natural order of their names, those that PyTorch's `torch.nn.utils.prune` left as `NAME_orig` and
    /// `NAME_mask` together, as NAME.
    pub fn parameters(&self) -> Vec<Parameter<'_>> {
        let named: HashMap<_, _> = self.tensors.iter().map(|tensor| (&*tensor.name, tensor)).collect();
        let is_mask =
            |mask: &TensorEntry| mask.is_float() || matches!(mask.info.dtype, Dtype::U8 | Dtype::BOOL);
        let fits = |tensor: &TensorEntry, mask: &TensorEntry| {
            tensor.is_float() && is_mask(mask) && tensor.info.shape == mask.info.shape
        };
        let other = |stem: &str, end| named.get(&*format!("{stem}{end}")).copied();
        let mut parameters = Vec::new();
        for tensor in &self.tensors {
            let orig = tensor.name.strip_suffix("_mask").and_then(|stem| other(stem, "_orig"));
            if orig.is_some_and(|orig| fits(orig, tensor)) {
                continue;
            }
            let masked = tensor.name.strip_suffix("_orig");
            let masked = masked.and_then(|name| Some((name, other(name, "_mask")?)));
            let masked = masked.filter(|(_, mask)| fits(tensor, mask));
            let name = masked.map_or(&*tensor.name, |(name, _)| name);
            parameters.push(Parameter { name, tensor, mask: masked.map(|(_, mask)| mask) });
        }
        parameters.sort_by_key(|parameter| parameter.tensor.rank);
        parameters
    }

    /// The numbers of a parameter of floating-point numbers, multiplied by its mask.
    ///
    /// # Errors
    /// As [`floats`](Self::floats).
    ///
    /// # Panics
    /// As [`floats`](Self::floats).
    pub fn values(&self, parameter: &Parameter<'_>) -> Result<Vec<f32>, TensorError> {
        let mut values = self.floats(parameter.tensor, 0..parameter.tensor.elements())?;
        if let Some(mask) = parameter.mask {
            let mask = match mask.is_float() {
                true => self.floats(mask, 0..mask.elements())?,
                false => self.bytes(mask)?.into_iter().map(f32::from).collect(),
            };
            values.iter_mut().zip(mask).for_each(|(value, mask)| *value *= mask);
            if let Some(index) = values.iter().position(|value| !value.is_finite()) {
                let (name, value) = (parameter.name.to_owned(), values[index]);
                return Err(self.error(TensorProblem::NotFinite { name, index, value }));
            }
        }
        Ok(values)
    }

    /// The first bytes of a file of the same tensors with this metadata.
    pub(crate) fn header(&self, metadata: &BTreeMap<String, String>) -> Vec<u8> {
        header(self.tensors.iter().map(|t| (&*t.name, t.info.dtype, t.info.shape.clone())), metadata)
    }

    /// The bytes of this range, counted from the end of the header, in pieces of a few MiB, each with its place. Of the range
    /// of a tensor no piece splits a number.
    pub(crate) fn pieces(
        &self,
        range: Range<usize>,
    ) -> impl Iterator<Item = Result<(usize, Vec<u8>), TensorError>> {
        const PIECE: usize = 1 << 22;
        let end = range.end;
        range.step_by(PIECE).map(move |place| {
            let bytes = self.read(place as u64, PIECE.min(end - place))?;
            Ok((place, bytes))
        })
    }

    /// Bytes after the header, from `place` on.
    fn read(&self, place: u64, length: usize) -> Result<Vec<u8>, TensorError> {
        let mut bytes = vec![0; length];
        self.bytes.read(self.data + place, &mut bytes).map_err(|error| self.error(error))?;
        Ok(bytes)
    }

    pub(crate) fn error<P: std::error::Error>(&self, problem: impl Into<P>) -> FileError<P> {
        FileError { file: self.name.clone(), problem: problem.into() }
    }
}

/// The first bytes of a file of these tensors, which follow in this order.
pub(crate) fn header<'a>(
    tensors: impl IntoIterator<Item = (&'a str, Dtype, Vec<usize>)>,
    metadata: &BTreeMap<String, String>,
) -> Vec<u8> {
    let mut end = 0;
    let mut entries = BTreeMap::from([("__metadata__", serde_json::json!(metadata))]);
    for (name, dtype, shape) in tensors {
        let begin = end;
        end += shape.iter().product::<usize>() * dtype.bitsize() / 8;
        let info = TensorInfo { dtype, shape, data_offsets: (begin, end) };
        entries.insert(name, serde_json::json!(info));
    }
    let mut json = serde_json::to_vec(&entries).expect("keys are strings");
    json.resize(json.len().next_multiple_of(8), b' ');
    [&(json.len() as u64).to_le_bytes()[..], &json].concat()
}

/// Whether `pattern`, in which `*` stands for any characters, is all of `name`. O(length of both), but for the search of parts.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
    let inside = name.strip_prefix(head).and_then(|name| name.strip_suffix(tail));
    // Of each part the first place leaves the most room.
    let find = |left: &'_ str, part: &str| left.find(part).map(|at| at + part.len());
    inside.is_some_and(|inside| {
        middle.split('*').try_fold(inside, |left, part| Some(&left[find(left, part)?..])).is_some()
    })
}

/// The key that sorts names naturally: by bytes, with runs of digits as numbers.
fn natural(name: &str) -> impl Ord {
    let runs = name.as_bytes().chunk_by(|a, b| a.is_ascii_digit() && b.is_ascii_digit());
    let parts = runs.map(|run| {
        let zeros = run.iter().take_while(|&&byte| byte == b'0').count();
        if run[0].is_ascii_digit() { (b'0', run.len() - zeros, &run[zeros..]) } else { (run[0], 0, &[][..]) }
    });
    (parts.collect::<Vec<_>>(), name)
}

/// A tensor of a file to be written.
pub(crate) struct Tensor {
    name: String,
    kind: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Tensor {
    /// Numbers, as f32.
    pub(crate) fn floats(name: impl Into<String>, shape: Vec<usize>, numbers: &[f32]) -> Self {
        Self { name: name.into(), kind: Dtype::F32, shape, bytes: little_endian(numbers) }
    }

    /// The mask of a layer, as u8: 0 removed, 1 kept.
    pub(crate) fn mask(name: impl Into<String>, shape: LayerShape, mask: &PackedMask) -> Self {
        let (name, shape) = (name.into(), shape.dimensions());
        Self { name, kind: Dtype::U8, shape, bytes: mask_bytes(mask) }
    }

    /// A mask as bits: bit j of byte i for weight 8 i + j.
    pub(crate) fn bits(name: impl Into<String>, mask: &PackedMask) -> Self {
        let mut bytes: Vec<u8> = mask.words().iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.truncate(mask.len().div_ceil(8));
        Self::bytes(name, bytes)
    }

    /// Bytes, as u8.
    pub(crate) fn bytes(name: impl Into<String>, bytes: Vec<u8>) -> Self {
        Self { name: name.into(), kind: Dtype::U8, shape: vec![bytes.len()], bytes }
    }
}

/// The bytes of a file with one entry of metadata, JSON. It has no second entry: the format's metadata has no order, and the
/// same content shall give the same bytes.
pub(crate) fn serialize(tensors: &[Tensor], entry: &str, value: &impl Serialize) -> Vec<u8> {
    let views = tensors.iter().map(|Tensor { name, kind, shape, bytes }| {
        let view = TensorView::new(*kind, shape.clone(), bytes);
        (name.as_str(), view.expect("as many bytes as the shape asks for"))
    });
    let json = serde_json::to_string(value).expect("no map with keys other than strings");
    let metadata = HashMap::from([(entry.to_owned(), json)]);
    safetensors::serialize(views, Some(metadata)).expect("well-formed tensors of distinct names")
}
