//! Which part of a sweep a process computes.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// Part `index` (from 1) of `of` parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    index: usize,
    of: usize,
}

impl Shard {
    /// Everything: part 1 of 1.
    pub const ALL: Self = Self { index: 1, of: 1 };

    /// The environment variable that holds a shard as `I/N`.
    pub const VARIABLE: &str = "SLTH_SHARD";

    /// The environment variable that holds the number of shards, for schedulers that do not state the size of an array.
    pub const COUNT_VARIABLE: &str = "SLTH_SHARDS";

    /// Part `index` of `of`.
    ///
    /// # Errors
    /// [`Error::Config`] unless 1 ≤ `index` ≤ `of`.
    pub fn new(index: usize, of: usize) -> Result<Self, Error> {
        let is = format_args!("{index}/{of}");
        Error::check("shard", (1..=of).contains(&index), "be I/N with I from 1 to N", is)?;
        Ok(Self { index, of })
    }

    /// Which part, from 1.
    pub fn index(self) -> usize {
        self.index
    }

    /// How many parts there are.
    pub fn of(self) -> usize {
        self.of
    }

    /// Whether piece `piece` (from 0) of the work is in this part: pieces are dealt round-robin.
    ///
    /// ```
    /// use slth::sweep::Shard;
    /// let second: Shard = "2/4".parse()?;
    /// assert_eq!((0..9).filter(|&piece| second.takes(piece)).collect::<Vec<_>>(), [1, 5]);
    /// # Ok::<(), slth::Error>(())
    /// ```
    pub fn takes(self, piece: usize) -> bool {
        piece % self.of == self.index - 1
    }

    /// The shard that the environment sets, and the name of its source. `variable` looks up environment variables.
    ///
    /// [`VARIABLE`](Self::VARIABLE) has precedence. Otherwise an array of jobs (Slurm, PBS, SGE) and the ranks in a job (Open
    /// MPI, MPICH and related launchers, a Slurm step) are detected; with both, the ranks divide the array's part.
    ///
    /// # Errors
    /// [`Error::Config`] when the variables are invalid or do not state the number of parts. (Each part would otherwise compute
    /// everything.)
    ///
    /// ```
    /// use slth::sweep::Shard;
    /// let environment = |name: &str| match name {
    ///     "OMPI_COMM_WORLD_RANK" => Some("0".to_owned()),
    ///     "OMPI_COMM_WORLD_SIZE" => Some("4".to_owned()),
    ///     _ => None,
    /// };
    /// let (shard, source) = Shard::detect(environment)?.unwrap();
    /// assert_eq!((shard.to_string(), source.as_str()), ("1/4".into(), "rank 0 of 4 of Open MPI"));
    /// # Ok::<(), slth::Error>(())
    /// ```
    pub fn detect(variable: impl Fn(&str) -> Option<String>) -> Result<Option<(Self, String)>, Error> {
        if let Some(text) = variable(Self::VARIABLE) {
            let shard = text.parse().map_err(|_| {
                Error::config(
                    "shard",
                    format!("{} must be I/N with I from 1 to N, but is `{text}`", Self::VARIABLE),
                )
            })?;
            return Ok(Some((shard, Self::VARIABLE.to_owned())));
        }
        let environment = Environment(&variable);
        let found: Vec<_> = [environment.array()?, environment.ranks()?].into_iter().flatten().collect();
        let (mut whole, mut sources) = (Self::ALL, Vec::new());
        for (part, source) in found.into_iter().filter(|(part, _)| part.of > 1) {
            whole = Self { index: (whole.index - 1) * part.of + part.index, of: whole.of * part.of };
            sources.push(source);
        }
        Ok((whole.of > 1).then(|| (whole, sources.join(", "))))
    }
}

/// The variables of schedulers and launchers.
struct Environment<'a>(&'a dyn Fn(&str) -> Option<String>);

type Found = Option<(Shard, String)>;

impl Environment<'_> {
    /// The number in a variable; other values count as unset (SGE sets "undefined" outside arrays).
    fn number(&self, name: &str) -> Option<usize> {
        (self.0)(name)?.trim().parse().ok()
    }

    /// The part of this job in an array of jobs.
    fn array(&self) -> Result<Found, Error> {
        for (kind, prefix, names) in [
            ("Slurm", "SLURM_ARRAY_TASK_", ["ID", "MIN", "MAX", "STEP"]),
            ("SGE", "SGE_TASK_", ["ID", "FIRST", "LAST", "STEPSIZE"]),
        ] {
            let [task, first, last, step] = names.map(|name| self.number(&format!("{prefix}{name}")));
            let Some(task) = task else { continue };
            let (Some(first), Some(last)) = (first, last) else {
                return Err(untold(&format!("task {task} of an array of {kind}"), ""));
            };
            let step = step.unwrap_or(1).max(1);
            let of = last.saturating_sub(first) / step + 1;
            // Slurm also has arrays with holes: 1,5,6.
            let listed = self.number("SLURM_ARRAY_TASK_COUNT").filter(|_| kind == "Slurm");
            if listed.is_some_and(|count| count != of) || task < first || (task - first) % step != 0 {
                return Err(untold(&format!("task {task} of an array of {kind} with holes"), ""));
            }
            return Ok(Some((
                Shard::new((task - first) / step + 1, of)?,
                format!("task {task} of {first} to {last} of {kind}'s array"),
            )));
        }
        for (kind, id) in [("PBS", "PBS_ARRAY_INDEX"), ("Torque", "PBS_ARRAYID")] {
            let Some(task) = self.number(id) else { continue };
            let Some(of) = self.number(Shard::COUNT_VARIABLE) else {
                let found = format!("task {task} of an array of {kind}, which does not tell its size");
                return Err(untold(
                    &found,
                    &format!(", or set {} to the number of parts", Shard::COUNT_VARIABLE),
                ));
            };
            return Ok(Some((Shard::new(task, of)?, format!("task {task} of {of} of {kind}'s array"))));
        }
        Ok(None)
    }

    /// The part of this process among those started together. A launcher inside a Slurm step has precedence over the step, whose
    /// processes then belong to the launcher. Outside a step Slurm's task counts describe the job to come, and are ignored.
    fn ranks(&self) -> Result<Found, Error> {
        let in_step = |name: &str| self.number("SLURM_STEP_ID").and_then(|_| self.number(name));
        let slurm_size = in_step("SLURM_STEP_NUM_TASKS").or_else(|| in_step("SLURM_NTASKS"));
        for (kind, rank, size) in [
            ("Open MPI", self.number("OMPI_COMM_WORLD_RANK"), self.number("OMPI_COMM_WORLD_SIZE")),
            ("MPICH", self.number("PMI_RANK"), self.number("PMI_SIZE")),
            ("a Slurm step", in_step("SLURM_PROCID"), slurm_size),
        ] {
            if let (Some(rank), Some(size)) = (rank, size) {
                return Ok(Some((Shard::new(rank + 1, size)?, format!("rank {rank} of {size} of {kind}"))));
            }
        }
        Ok(None)
    }
}

/// Of a task whose part is not known. `also`: what else helps.
fn untold(found: &str, also: &str) -> Error {
    let problem = format!(
        "this is {found}; give the part to compute, as I/N{also}, or compute everything by --no-env-shard"
    );
    Error::config("shard", problem)
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

impl FromStr for Shard {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.split_once('/').map(|(index, of)| (index.parse(), of.parse())) {
            Some((Ok(index), Ok(of))) => Self::new(index, of),
            _ => Err(Error::config("shard", format!("must be I/N, as in 1/4, but is `{text}`"))),
        }
    }
}
