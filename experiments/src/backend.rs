//! Devices: the one file of this crate that names a backend.
//!
//! Each Burn backend is a cargo feature of the same name. What was compiled in is chosen among at
//! run time, by `--device`: `flex`, `wgpu`, `cuda:1`, `remote:gpu-host:3000`.

use std::time::Duration;

#[cfg(any(feature = "wgpu", feature = "vulkan", feature = "metal"))]
use burn::tensor::DeviceKind;
#[cfg(any(
    feature = "wgpu",
    feature = "vulkan",
    feature = "metal",
    feature = "cuda",
    feature = "rocm"
))]
use burn::tensor::DeviceType;
use burn::tensor::{Device, Tensor};

use crate::panics::quietly;

/// How long a device may take to answer: starting a GPU compiles its first kernel.
const PATIENCE: Duration = Duration::from_mins(1);

/// Why there is no device to compute on.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// No backend was compiled in.
    #[error("this kiln was built without a backend; build it with one of --features {}", NAMES.join(", "))]
    NoBackend,
    /// No backend has this name.
    #[error("unknown device `{name}`; there is {}", NAMES.join(", "))]
    Unknown {
        /// The name as given.
        name: String,
    },
    /// The backend exists, but this program was built without it.
    #[error(
        "device `{name}` is not compiled in; build kiln with --features {feature} (compiled in: {}){}",
        compiled(),
        other_cpu(feature)
    )]
    NotCompiled {
        /// The name as given.
        name: String,
        /// The cargo feature that adds it.
        feature: &'static str,
    },
    /// What follows the colon is wrong.
    #[error("device `{name}`: {reason}")]
    Selector {
        /// The name as given.
        name: String,
        /// What would be right.
        reason: String,
    },
    /// The backend is compiled in, but nothing computes.
    #[error("device `{name}` does not answer: {reason}")]
    NoAnswer {
        /// The name as given.
        name: String,
        /// What the backend said.
        reason: String,
    },
}

/// A local backend that was compiled in.
struct Backend {
    /// Its name, on the command line and as a cargo feature.
    name: &'static str,
    /// The device that the name alone stands for.
    default: fn() -> Device,
    /// The devices that `name:0`, `name:1`, ... stand for; none for a backend with a single device.
    numbered: Option<fn() -> Vec<Device>>,
}

/// Every backend that kiln can be built with.
const NAMES: [&str; 9] = [
    "flex", "ndarray", "wgpu", "vulkan", "metal", "cuda", "rocm", "cpu", "remote",
];

/// The local backends that were compiled in; the first one is the default.
const BACKENDS: &[Backend] = &[
    #[cfg(feature = "flex")]
    Backend {
        name: "flex",
        default: Device::flex,
        numbered: None,
    },
    #[cfg(feature = "ndarray")]
    Backend {
        name: "ndarray",
        #[expect(
            deprecated,
            reason = "Burn still ships it, and it checks the other backends"
        )]
        default: Device::ndarray,
        numbered: None,
    },
    #[cfg(feature = "wgpu")]
    Backend {
        name: "wgpu",
        default: || Device::wgpu(DeviceKind::DefaultDevice),
        numbered: Some(|| Device::enumerate(DeviceType::Wgpu).into_vec()),
    },
    #[cfg(feature = "vulkan")]
    Backend {
        name: "vulkan",
        default: || Device::vulkan(DeviceKind::DefaultDevice),
        numbered: Some(|| Device::enumerate(DeviceType::Vulkan).into_vec()),
    },
    #[cfg(feature = "metal")]
    Backend {
        name: "metal",
        default: || Device::metal(DeviceKind::DefaultDevice),
        numbered: Some(|| Device::enumerate(DeviceType::Metal).into_vec()),
    },
    #[cfg(feature = "cuda")]
    Backend {
        name: "cuda",
        default: || Device::cuda(0),
        numbered: Some(|| Device::enumerate(DeviceType::Cuda).into_vec()),
    },
    #[cfg(feature = "rocm")]
    Backend {
        name: "rocm",
        default: || Device::rocm(0),
        numbered: Some(|| Device::enumerate(DeviceType::Rocm).into_vec()),
    },
    #[cfg(feature = "cpu")]
    Backend {
        name: "cpu",
        default: Device::cpu,
        numbered: None,
    },
];

/// The name of the device that is used when none is given.
pub fn default_name() -> Option<&'static str> {
    BACKENDS.first().map(|backend| backend.name)
}

/// Opens the device called `name`, or the default one, and makes sure that it computes.
///
/// The device is a plain one; training wants its `autodiff()`.
///
/// # Errors
/// The name is unknown, not compiled in, or names a device that is not there or does not answer.
pub fn open(name: Option<&str>) -> Result<Device, DeviceError> {
    let name = name.or(default_name()).ok_or(DeviceError::NoBackend)?;
    let (backend, selector) = match name.split_once(':') {
        Some((backend, selector)) => (backend, Some(selector)),
        None => (name, None),
    };
    let Some(feature) = NAMES.into_iter().find(|known| *known == backend) else {
        return Err(DeviceError::Unknown {
            name: name.to_owned(),
        });
    };
    if feature == "remote" {
        return remote(name, selector);
    }
    let Some(backend) = BACKENDS.iter().find(|compiled| compiled.name == feature) else {
        return Err(DeviceError::NotCompiled {
            name: name.to_owned(),
            feature,
        });
    };
    match selector {
        None => answering(name, backend.default),
        Some(selector) => numbered(name, backend, selector),
    }
}

/// Whether a plain device is a GPU of this machine: those keep account of their memory, as does `cpu`.
pub(crate) fn is_gpu(device: &Device) -> bool {
    #[cfg(feature = "cpu")]
    if *device == Device::cpu() {
        return false;
    }
    device.memory_pool_usage().is_some()
}

/// Opens `BACKEND:INDEX`.
fn numbered(name: &str, backend: &Backend, selector: &str) -> Result<Device, DeviceError> {
    let selector_error = |reason: String| DeviceError::Selector {
        name: name.to_owned(),
        reason,
    };
    let Some(list) = backend.numbered else {
        return Err(selector_error(format!(
            "there is one `{0}`; write it without a number",
            backend.name
        )));
    };
    let index: usize = selector.parse().map_err(|_| {
        selector_error(format!(
            "`{selector}` is no device number; write `{}:0`",
            backend.name
        ))
    })?;
    let mut devices = no_panic(name, list)?;
    let count = devices.len();
    if index >= count {
        return Err(selector_error(match count {
            0 => format!("no {} device was found", backend.name),
            _ => format!(
                "out of range; {} has {count}, numbered from 0",
                backend.name
            ),
        }));
    }
    let device = devices.swap_remove(index);
    answering(name, move || device)
}

/// Opens `remote:ADDRESS`.
#[cfg(feature = "remote")]
fn remote(name: &str, address: Option<&str>) -> Result<Device, DeviceError> {
    use burn::tensor::remote::RemoteHost;

    let Some(address) = address.filter(|address| !address.is_empty()) else {
        let reason = "give the server's address, as in `remote:gpu-host:3000`".to_owned();
        return Err(DeviceError::Selector {
            name: name.to_owned(),
            reason,
        });
    };
    let url = if address.contains("://") {
        address.to_owned()
    } else {
        format!("ws://{address}")
    };
    let connected = no_panic(name, move || {
        Device::remote_options(&RemoteHost::websocket(&url)).init()
    })?;
    let device = connected.map_err(|error| DeviceError::NoAnswer {
        name: name.to_owned(),
        reason: error.to_string(),
    })?;
    answering(name, move || device)
}

/// Opens `remote:ADDRESS`.
#[cfg(not(feature = "remote"))]
fn remote(name: &str, _address: Option<&str>) -> Result<Device, DeviceError> {
    Err(DeviceError::NotCompiled {
        name: name.to_owned(),
        feature: "remote",
    })
}

/// The device that `open` gives, once it has computed something.
fn answering(
    name: &str,
    open: impl FnOnce() -> Device + Send + 'static,
) -> Result<Device, DeviceError> {
    let (device, sum) = no_panic(name, || {
        let device = open();
        let sum = (Tensor::<1>::from_floats([1.0, 2.0], &device) + 1.0)
            .sum()
            .into_data();
        (device, sum)
    })?;
    if sum.iter::<f32>().eq([5.0]) {
        Ok(device)
    } else {
        let reason = format!("it takes the sum of 2 and 3 for {sum}");
        Err(DeviceError::NoAnswer {
            name: name.to_owned(),
            reason,
        })
    }
}

/// What `work` gives; Burn panics where a driver or a GPU is missing.
fn no_panic<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, DeviceError> {
    quietly(PATIENCE, work).map_err(|reason| DeviceError::NoAnswer {
        name: name.to_owned(),
        reason,
    })
}

fn compiled() -> String {
    let mut names: Vec<&str> = BACKENDS.iter().map(|backend| backend.name).collect();
    if cfg!(feature = "remote") {
        names.push("remote:ADDRESS");
    }
    if names.is_empty() {
        "nothing".to_owned()
    } else {
        names.join(", ")
    }
}

/// What those may have meant who ask for the backend `cpu`, Burn's compiler for CPUs.
fn other_cpu(feature: &str) -> &'static str {
    if feature == "cpu" && cfg!(feature = "flex") {
        "; `flex` computes on the CPU"
    } else {
        ""
    }
}

/// One line of `kiln devices`.
#[derive(Debug)]
pub struct SurveyedDevice {
    /// The device's name for `--device`.
    pub name: String,
    /// Whether it computes, and if not, why.
    pub answer: Result<(), String>,
    /// Whether it is the one used when none is named.
    pub default: bool,
}

/// Asks every device that was compiled in. A remote server is asked only when it is named.
pub fn survey() -> Vec<SurveyedDevice> {
    let mut answers = Vec::new();
    for backend in BACKENDS {
        let ask = |name: String, default: bool| SurveyedDevice {
            answer: match open(Some(&name)) {
                Ok(_) => Ok(()),
                Err(DeviceError::NoAnswer { reason, .. }) => Err(reason),
                Err(error) => Err(error.to_string()),
            },
            name,
            default,
        };
        answers.push(ask(
            backend.name.to_owned(),
            default_name() == Some(backend.name),
        ));
        // A backend that cannot even list its devices has said why by its name alone.
        let count = backend.numbered.map_or(0, |list| {
            quietly(PATIENCE, list).map_or(0, |devices| devices.len())
        });
        answers.extend((0..count).map(|index| ask(format!("{}:{index}", backend.name), false)));
    }
    answers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(name: &str) -> String {
        open(Some(name))
            .expect_err("the device must be refused")
            .to_string()
    }

    #[test]
    #[cfg(feature = "flex")]
    fn the_default_device_computes() {
        assert_eq!(default_name(), Some("flex"));
        assert!(open(None).is_ok());
        let answers = survey();
        assert!(
            answers
                .iter()
                .any(|answer| answer.name == "flex" && answer.default && answer.answer.is_ok())
        );
    }

    #[test]
    fn an_unknown_device_names_those_that_there_are() {
        assert_eq!(
            refusal("gpu:0"),
            "unknown device `gpu:0`; there is flex, ndarray, wgpu, vulkan, metal, cuda, rocm, cpu, \
             remote"
        );
    }

    #[test]
    #[cfg(all(feature = "flex", not(feature = "cpu")))]
    fn who_asks_for_the_cpu_is_told_of_flex() {
        let message = refusal("cpu");
        assert!(
            message.ends_with("; `flex` computes on the CPU"),
            "{message}"
        );
    }

    #[test]
    #[cfg(not(feature = "cuda"))]
    fn a_device_that_is_not_compiled_in_names_its_feature() {
        let message = refusal("cuda:0");
        assert!(
            message.contains("`cuda:0` is not compiled in") && message.contains("--features cuda"),
            "{message}"
        );
    }

    #[test]
    #[cfg(feature = "flex")]
    fn a_single_device_has_no_number() {
        assert_eq!(
            refusal("flex:1"),
            "device `flex:1`: there is one `flex`; write it without a number"
        );
    }

    #[test]
    fn a_panicking_driver_does_not_answer() {
        let error =
            answering("gpu", || panic!("Unable to acquire wgpu device")).expect_err("it panics");
        assert_eq!(
            error.to_string(),
            "device `gpu` does not answer: Unable to acquire wgpu device"
        );
    }

    #[test]
    fn a_number_is_checked_against_what_is_there() {
        let backend = Backend {
            name: "gpu",
            default: || unreachable!(),
            numbered: Some(Vec::new),
        };
        let refusal = |selector| {
            numbered(&format!("gpu:{selector}"), &backend, selector)
                .expect_err("none")
                .to_string()
        };
        assert_eq!(refusal("0"), "device `gpu:0`: no gpu device was found");
        assert_eq!(
            refusal("x"),
            "device `gpu:x`: `x` is no device number; write `gpu:0`"
        );
    }
}
