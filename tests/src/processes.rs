//! Which processes belong to a control plane.

use std::fs;

/// Processes, as `id: command line`, in whose arguments, environment or working folder `text` stands. A control plane
/// of the tests has a folder of its own, which every Helm that it starts has in its environment.
///
/// # Panics
/// Where there is no `/proc`.
#[must_use]
pub fn mentioning(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let folder = entry.path();
        // A process may end between any two of these; what cannot be read is gone.
        let read = |file: &str| {
            let bytes = fs::read(folder.join(file)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).replace('\0', " ")
        };
        let command_line = read("cmdline");
        if command_line.is_empty() || pid == std::process::id() {
            continue;
        }
        let place = fs::read_link(folder.join("cwd")).unwrap_or_default();
        let mentioned = command_line.contains(text)
            || read("environ").contains(text)
            || place.to_string_lossy().contains(text);
        if mentioned {
            found.push(format!("{pid}: {}", command_line.trim()));
        }
    }
    found
}

/// A running process of this machine.
#[derive(Debug, Clone, Copy)]
pub struct ProcessId(pub u32);

impl ProcessId {
    /// Memory that it holds now, in KiB.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn resident(self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most memory that it ever held, in KiB.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn most_resident(self) -> u64 {
        self.status("VmHWM:")
    }

    fn status(self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        line.and_then(|line| line.trim().strip_suffix(" kB"))
            .and_then(|number| number.trim().parse().ok())
            .unwrap()
    }
}
