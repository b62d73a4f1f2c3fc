//! Which instruction set the kernels use: found once, or forced by a variable.

use std::sync::atomic::{AtomicU8, Ordering};

/// The variable that forces an instruction set; unset or empty means the best.
pub(crate) const VARIABLE: &str = "VECINO_ISA";

/// An instruction set that kernels are written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Isa {
    /// Plain Rust: the oracle of the others, and the way out on other machines.
    Scalar = 1,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2 = 2,
    /// x86-64 with AVX-512 F.
    Avx512 = 3,
    /// AArch64 with NEON.
    Neon = 4,
}

/// Why the instruction set that [`VARIABLE`] asks for cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IsaFault {
    /// No instruction set has this name.
    #[error("{VARIABLE}={value}: not one of scalar, avx2, avx512, neon")]
    Unknown { value: String },
    /// This machine does not have it.
    #[error("{VARIABLE}={value}: this machine has only {}", names(&Isa::available()))]
    Unavailable { value: String },
}

impl Isa {
    /// Every instruction set, slowest first.
    pub(crate) const ALL: [Isa; 4] = [Isa::Scalar, Isa::Neon, Isa::Avx2, Isa::Avx512];

    /// The name, as [`VARIABLE`] takes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Neon => "neon",
        }
    }

    /// The instruction set of that name.
    pub(crate) fn named(name: &str) -> Option<Isa> {
        Isa::ALL.into_iter().find(|isa| isa.name() == name)
    }

    /// The best instruction set of this machine.
    pub(crate) fn detected() -> Isa {
        Isa::available().last().copied().unwrap_or(Isa::Scalar)
    }

    /// What this machine can run, slowest first.
    pub(crate) fn available() -> Vec<Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.is_available()).collect()
    }

    /// Whether this machine can run it.
    pub(crate) fn is_available(self) -> bool {
        match self {
            Isa::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => is_x86_feature_detected!("avx512f"),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            _ => false,
        }
    }

    fn coded(code: u8) -> Option<Isa> {
        Isa::ALL.into_iter().find(|isa| *isa as u8 == code)
    }
}

/// The instruction set in use: the one that [`VARIABLE`] forces, else the best.
///
/// The answer is found once. Only an answer is kept, since a fault has a text
/// and the cell has one byte: after a fault the variable is read again.
///
/// # Errors
/// [`IsaFault`]: the variable names no instruction set, or one that this
/// machine lacks.
pub(crate) fn selected() -> Result<Isa, IsaFault> {
    static SELECTED: AtomicU8 = AtomicU8::new(0);
    // Relaxed: the byte is the whole answer, and racing threads find the same.
    if let Some(isa) = Isa::coded(SELECTED.load(Ordering::Relaxed)) {
        return Ok(isa);
    }
    let forced = std::env::var_os(VARIABLE).unwrap_or_default();
    let isa = choose(&forced.to_string_lossy())?;
    SELECTED.store(isa as u8, Ordering::Relaxed);
    Ok(isa)
}

fn choose(forced: &str) -> Result<Isa, IsaFault> {
    if forced.is_empty() {
        return Ok(Isa::detected());
    }
    let isa = Isa::named(forced).ok_or_else(|| IsaFault::Unknown { value: forced.to_owned() })?;
    if isa.is_available() { Ok(isa) } else { Err(IsaFault::Unavailable { value: forced.to_owned() }) }
}

fn names(isas: &[Isa]) -> String {
    let names: Vec<&str> = isas.iter().map(|isa| isa.name()).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_forced_means_the_best() {
        assert_eq!(choose(""), Ok(Isa::detected()));
        assert_eq!(Isa::available().last(), Some(&Isa::detected()));
    }

    #[test]
    fn what_this_machine_has_can_be_forced_and_nothing_else() {
        for isa in Isa::ALL {
            let absent = IsaFault::Unavailable { value: isa.name().to_owned() };
            assert_eq!(choose(isa.name()), if isa.is_available() { Ok(isa) } else { Err(absent) });
        }
    }

    #[test]
    fn a_fault_names_the_value() {
        let fault = choose("AVX9").unwrap_err();
        assert_eq!(fault.to_string(), "VECINO_ISA=AVX9: not one of scalar, avx2, avx512, neon");
        let foreign = if cfg!(target_arch = "x86_64") { "neon" } else { "avx2" };
        let fault = choose(foreign).unwrap_err().to_string();
        assert!(fault.starts_with(&format!("VECINO_ISA={foreign}: ")) && fault.contains("scalar"), "{fault}");
    }

    #[test]
    fn an_answer_is_kept() {
        assert_eq!(selected(), selected());
    }

    #[test]
    fn codes_and_names_lead_back() {
        for isa in Isa::ALL {
            assert_eq!(Isa::coded(isa as u8), Some(isa));
            assert_eq!(Isa::named(isa.name()), Some(isa));
        }
        assert_eq!(Isa::coded(0), None);
    }
}
