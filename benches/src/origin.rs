//! The origin of a recording: machine, commit, compiler, peers.

use std::fmt;
use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};
use slth_kernels::Backend;

/// A CPU, as it identifies itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    /// The maker, for example `GenuineIntel`; empty if unknown.
    pub vendor: String,
    /// Family, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<u32>,
    /// Model, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<u32>,
    /// Stepping, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stepping: Option<u32>,
    /// Its name, or else its architecture.
    pub name: String,
}

impl Cpu {
    /// The CPU of this machine.
    pub fn here() -> Self {
        Self::parse(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default())
    }

    /// The first CPU in the text of Linux's `/proc/cpuinfo`.
    fn parse(text: &str) -> Self {
        let field = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once(':'));
            lines.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
        };
        let number = |name: &str| field(name)?.parse().ok();
        Self {
            vendor: field("vendor_id").unwrap_or_default(),
            family: number("cpu family"),
            model: number("model"),
            stepping: number("stepping"),
            name: field("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        }
    }

    /// The name of the folder for its recordings: maker, family, model, stepping and name, for example `amd-25-17-1-epyc-9b14`.
    pub fn folder(&self) -> String {
        let vendor = self.vendor.trim_start_matches("Genuine").trim_start_matches("Authentic").to_lowercase();
        let mut parts: Vec<String> = vec![vendor.clone()];
        parts.extend([self.family, self.model, self.stepping].into_iter().flatten().map(|n| n.to_string()));
        let name = self.name.to_lowercase().replace("(r)", " ").replace("(tm)", " ");
        let words = name.split(|c: char| !c.is_ascii_alphanumeric());
        parts.extend(words.filter(|word| *word != vendor).map(str::to_owned));
        parts.retain(|part| !part.is_empty());
        parts.join("-")
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match (self.family, self.model, self.stepping) {
            (Some(family), Some(model), Some(stepping)) => {
                write!(f, " (family {family}, model {model}, stepping {stepping})")
            }
            _ => Ok(()),
        }
    }
}

/// Another library, in the version and configuration that was measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// The name that its rows have as contestant.
    pub peer: String,
    /// Version.
    pub version: String,
    /// Features, settings, threads.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub features: String,
    /// The instruction set it ran with.
    pub isa: String,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peer, version, features, isa } = self;
        write!(f, "{peer} {version}")?;
        if !features.is_empty() {
            write!(f, " ({features})")?;
        }
        write!(f, ": {isa}")
    }
}

/// The first line of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The CPU.
    pub cpu: Cpu,
    /// Cores this process could use.
    pub cores: usize,
    /// The operating system.
    pub os: String,
    /// The backends of ours, best first.
    pub backends: Vec<String>,
    /// The core that measurements on one thread were pinned to.
    pub core: Option<usize>,
    /// The commit, with `-dirty` if files differed from it; `unknown` outside a repository.
    pub commit: String,
    /// Its time, in UTC as `2026-11-27T20:15:00Z`, by which recordings are ordered; empty outside a repository.
    pub commit_time: String,
    /// The compiler.
    pub rustc: String,
    /// The command.
    pub command: String,
    /// The peers.
    #[serde(default)]
    pub peers: Vec<Peer>,
}

impl Origin {
    /// The origin of this process's measurements. `cores` is the number of usable cores before a thread was pinned to `core`.
    pub fn here(cores: usize, core: Option<usize>) -> Self {
        let git = |arguments: &[&str]| {
            let out = Command::new("git").args(arguments).env("TZ", "UTC").output().ok();
            let out = out.filter(|out| out.status.success())?;
            Some(String::from_utf8_lossy(&out.stdout).trim().to_owned())
        };
        let commit = git(&["describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]);
        let time = git(&["log", "-1", "--format=%cd", "--date=format-local:%Y-%m-%dT%H:%M:%SZ"]);
        let quoted = |word: String| if word.contains(' ') { format!("\"{word}\"") } else { word };
        let arguments = std::env::args().skip(1).map(quoted);
        Self {
            cpu: Cpu::here(),
            cores,
            os: std::env::consts::OS.to_owned(),
            backends: Backend::available().iter().map(|backend| backend.name().to_owned()).collect(),
            core,
            commit: commit.unwrap_or_else(|| "unknown".to_owned()),
            commit_time: time.unwrap_or_default(),
            rustc: env!("SLTH_BENCH_RUSTC").to_owned(),
            command: std::iter::once("slth-bench".to_owned()).chain(arguments).collect::<Vec<_>>().join(" "),
            peers: peers(),
        }
    }

    /// The name of its recording, without the extension.
    pub fn stem(&self) -> String {
        let day = self.commit_time.split('T').next().filter(|day| !day.is_empty());
        day.map_or_else(|| self.commit.clone(), |day| format!("{day}-{}", self.commit))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, cores, commit, rustc, .. } = self;
        write!(f, "{cpu}, {cores} cores, commit {commit}, {rustc}")
    }
}

/// The peers that are compiled in.
fn peers() -> Vec<Peer> {
    #[cfg(feature = "peers")]
    return slth_peers::libraries()
        .into_iter()
        .map(|slth_peers::Library { name, version, features, isa }| Peer {
            peer: name.to_owned(),
            version,
            features: features.to_owned(),
            isa: isa.to_owned(),
        })
        .collect();
    #[cfg(not(feature = "peers"))]
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders() {
        let text = "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 207\n\
                    model name\t: Intel(R) Xeon(R) Processor @ 2.60GHz\nstepping\t: 2\n";
        let cpu = Cpu::parse(text);
        assert_eq!(cpu.folder(), "intel-6-207-2-xeon-processor-2-60ghz");
        assert_eq!(cpu.to_string(), "Intel(R) Xeon(R) Processor @ 2.60GHz (family 6, model 207, stepping 2)");
        let other = Cpu { stepping: Some(3), ..cpu.clone() };
        assert_ne!(other.folder(), cpu.folder());
        let unknown =
            Cpu { vendor: "AuthenticAMD".to_owned(), name: "AMD EPYC".to_owned(), ..Cpu::default() };
        assert_eq!(unknown.folder(), "amd-epyc");
        assert_eq!(Cpu::parse("").folder(), std::env::consts::ARCH.replace('_', "-"));
    }
}
