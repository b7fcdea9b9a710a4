//! OCI images made here: one program, one layer, no base.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// An image of an archive: its reference and the arguments that its program gets.
#[derive(Debug, Clone, Copy)]
pub struct Image {
    /// Its full reference, registry and tag included.
    pub reference: &'static str,
    /// What the program is told when a pod does not say otherwise.
    pub arguments: &'static [&'static str],
}

/// Writes an OCI archive with all of the images to `target`. They share one layer, which holds the static program at
/// `program` as `/program`, and run it as a user without rights.
///
/// # Errors
/// When the program cannot be read or the archive cannot be written.
pub fn write_archive(program: &Path, images: &[Image], target: &Path) -> Result<()> {
    let bytes = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    let file = File::create(target).with_context(|| format!("cannot create {}", target.display()))?;
    let mut archive = Archive {
        tar: tar::Builder::new(file),
    };
    let layer = layer(&bytes)?;
    let layer_digest = archive.blob(&layer)?;
    let mut manifests = Vec::new();
    for image in images {
        let configuration = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {"Entrypoint": ["/program"], "Cmd": image.arguments, "User": "65532:65532"},
            "rootfs": {"type": "layers", "diff_ids": [layer_digest]},
        });
        let configuration = configuration.to_string();
        let configuration_digest = archive.blob(configuration.as_bytes())?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": configuration_digest,
                "size": configuration.len(),
            },
            "layers": [{
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": layer_digest,
                "size": layer.len(),
            }],
        });
        let manifest = manifest.to_string();
        let manifest_digest = archive.blob(manifest.as_bytes())?;
        manifests.push(json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": manifest_digest,
            "size": manifest.len(),
            "annotations": {"io.containerd.image.name": image.reference},
        }));
    }
    archive.json("index.json", &json!({"schemaVersion": 2, "manifests": manifests}))?;
    archive.json("oci-layout", &json!({"imageLayoutVersion": "1.0.0"}))?;
    archive.tar.into_inner().context("cannot finish the archive")?;
    Ok(())
}

/// This machine's processor, as images name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn layer(program: &[u8]) -> Result<Vec<u8>> {
    let mut layer = tar::Builder::new(Vec::new());
    append(&mut layer, "program", program, 0o755)?;
    layer.into_inner().context("cannot finish the layer")
}

struct Archive {
    tar: tar::Builder<File>,
}

impl Archive {
    /// Adds content under its digest and returns that.
    fn blob(&mut self, content: &[u8]) -> Result<String> {
        let hash: String = Sha256::digest(content)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        append(&mut self.tar, &format!("blobs/sha256/{hash}"), content, 0o644)?;
        Ok(format!("sha256:{hash}"))
    }

    fn json(&mut self, name: &str, value: &Value) -> Result<()> {
        append(&mut self.tar, name, value.to_string().as_bytes(), 0o644)
    }
}

fn append<W: std::io::Write>(tar: &mut tar::Builder<W>, name: &str, content: &[u8], mode: u32) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    header.set_mtime(0);
    tar.append_data(&mut header, name, content)
        .with_context(|| format!("cannot add {name} to an archive"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use super::*;

    #[test]
    fn every_digest_in_an_archive_leads_to_its_content() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("program"), "a program").unwrap();
        let target = folder.path().join("images.tar");
        let images = [
            Image {
                reference: "example.org/a:1",
                arguments: &["serve"],
            },
            Image {
                reference: "example.org/b:1",
                arguments: &["pause"],
            },
        ];
        write_archive(&folder.path().join("program"), &images, &target).unwrap();

        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(File::open(&target).unwrap()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            files.insert(name, content);
        }
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"]
                .as_str()
                .unwrap()
                .strip_prefix("sha256:")
                .unwrap();
            let content = &files[&format!("blobs/sha256/{digest}")];
            assert_eq!(descriptor["size"], content.len());
            content.clone()
        };
        let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
        for (image, descriptor) in images.iter().zip(index["manifests"].as_array().unwrap()) {
            assert_eq!(
                descriptor["annotations"]["io.containerd.image.name"],
                image.reference
            );
            let manifest: Value = serde_json::from_slice(&blob(descriptor)).unwrap();
            let configuration: Value = serde_json::from_slice(&blob(&manifest["config"])).unwrap();
            assert_eq!(configuration["config"]["Cmd"], json!(image.arguments));
            assert_eq!(
                configuration["rootfs"]["diff_ids"][0],
                manifest["layers"][0]["digest"]
            );
            let layer = blob(&manifest["layers"][0]);
            let mut entries = tar::Archive::new(layer.as_slice());
            let program = entries.entries().unwrap().next().unwrap().unwrap();
            assert_eq!(program.header().mode().unwrap(), 0o755);
        }
    }
}
