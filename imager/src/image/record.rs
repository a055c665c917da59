//! What was built of what: the keys of stages and images, and the note that a second build finds.

use std::{
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    BuildOptions, BuildOutput, ImageError, Inputs,
    output::{self, Partial},
};
use crate::{cache, packages::Pin, profile::Profile, tree::Kind};

/// The key of the inputs a stage depends on, this program included: another version may lay things out otherwise.
pub(super) fn stage_key(profile: &Profile, inputs: &Inputs) -> Result<String, ImageError> {
    let mut hash = Sha256::new();
    if let Ok(program) = env::current_exe() {
        hash.update(output::hash_file(&program).map_err(ImageError::io("reading", &program))?);
    }
    let mut shared = profile.clone();
    shared.config.clear();
    hash.update(serde_json::to_vec(&shared).unwrap_or_default());
    for overlay in &profile.overlays {
        for (path, node) in overlay.tree()?.nodes {
            hash.update(format!("{path}\0{:o}\0", node.mode));
            match &node.kind {
                Kind::File(content) => {
                    hash.update(content.read().map_err(ImageError::io("reading", &overlay.directory))?);
                }
                Kind::Symlink(target) => hash.update(target),
                Kind::Directory | Kind::CharDevice(..) => {}
            }
            hash.update("\n");
        }
    }
    let mut pins: Vec<&Pin> = inputs.packages.iter().map(|p| &p.pin).collect();
    pins.sort();
    for pin in pins {
        hash.update(format!("{} {}\n", pin.name, pin.sha256));
    }
    hash.update(format!("{} {} {} {}\n", inputs.kiln_sha256, inputs.init.sha256, inputs.toolchain, inputs.time));
    Ok(hex::encode(hash.finalize()))
}

/// The key of everything the results depend on.
pub(super) fn image_key(stage_key: &str, profile: &Profile, options: &BuildOptions) -> String {
    let mut hash = Sha256::new();
    hash.update(stage_key);
    for file in &profile.config {
        hash.update(format!("{}\0{}\0", file.path, file.content.len()));
        hash.update(&file.content);
    }
    hash.update([u8::from(options.compress)]);
    hex::encode(hash.finalize())
}

/// The note of what was last built at a place, kept in the cache.
pub(super) struct Record {
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Recorded {
    key: String,
    output: BuildOutput,
    /// Size and time of change (nanoseconds) of each result: a result that someone edited is built anew.
    files: Vec<(u64, u128)>,
}

impl Record {
    /// The record of the results at a place.
    pub(super) fn at(cache: &Path, out: &Path, stem: &str) -> Record {
        let place = std::path::absolute(out.join(stem)).unwrap_or_else(|_| out.join(stem));
        let name = hex::encode(Sha256::digest(place.to_string_lossy().as_bytes()));
        Record { path: cache.join("images").join(format!("{name}.json")) }
    }

    /// What was built there, if it was made of these inputs and is still what it was.
    pub(super) fn find(&self, key: &str) -> Option<BuildOutput> {
        let recorded: Recorded = serde_json::from_slice(&fs::read(&self.path).ok()?).ok()?;
        let mut output = recorded.output;
        output.unchanged = true;
        (recorded.key == key && stamps(&output)? == recorded.files).then_some(())?;
        cache::touch(&self.path);
        Some(output)
    }

    /// Notes what was built.
    pub(super) fn save(&self, key: &str, output: &BuildOutput) -> Result<(), ImageError> {
        let Some(files) = stamps(output) else { return Ok(()) };
        let recorded = Recorded { key: key.to_owned(), output: output.clone(), files };
        let text = serde_json::to_vec(&recorded).unwrap_or_default();
        let partial = Partial::create(&self.path)?;
        partial.handle()?.write_all(&text).map_err(ImageError::io("writing", &self.path))?;
        partial.commit()
    }
}

fn stamps(output: &BuildOutput) -> Option<Vec<(u64, u128)>> {
    let compressed = output.compressed.as_ref();
    [&output.image, &output.bmap, &output.checksums, &output.manifest, &output.sbom]
        .into_iter()
        .chain(compressed)
        .map(|path| {
            let meta = fs::metadata(path).ok()?;
            let changed = meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_nanos();
            Some((meta.len(), changed))
        })
        .collect()
}
