//! The whole pipeline: lock, packages, runtime, root, boot files, image.

use std::{env, fs, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{
    ImageError, bmap, layout,
    manifest::{self, Runtime},
    output::{self, Partial},
    record::{Record, image_key, stage_key},
    sbom,
    stage::Stage,
};
use crate::{
    packages::{self, Lock, Metadata, PathFilter, Pin, Section, Source, Unpacked},
    profile::Profile,
    progress::Progress,
    rootfs::{self, RootfsError},
    toolchain::{self, Crate, RuntimeRequest},
    tree::{Content, Tree},
};

/// How to build.
#[derive(Clone, Debug)]
pub struct BuildOptions {
    /// The checkout, with `boards/`, `overlays/` and the runtime's source.
    pub workspace: PathBuf,
    /// Directory for everything that can be made again.
    pub cache: PathBuf,
    /// Directory for the results.
    pub out: PathBuf,
    /// File name of the results without extension; `kiln-<board>` if none.
    pub name: Option<String>,
    /// The lock file.
    pub lock: PathBuf,
    /// Fail if the archives would give other packages than the lock.
    pub locked: bool,
    /// A runtime that is compiled already.
    pub runtime: Option<PathBuf>,
    /// Which tools compile the runtime.
    pub toolchain: toolchain::Choice,
    /// Mirror, keys and caches of packages.
    pub packages: packages::Settings,
    /// Seconds since 1970 for every time in the image; if none, `SOURCE_DATE_EPOCH`, else the lock's time.
    pub time: Option<i64>,
    /// Whether to write the compressed image too.
    pub compress: bool,
}

/// What a build made.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct BuildOutput {
    /// The image.
    pub image: PathBuf,
    /// Its size in bytes, holes included.
    pub image_size: u64,
    /// Bytes of it that are not holes.
    pub written: u64,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
    /// The compressed image.
    pub compressed: Option<PathBuf>,
    /// Its size in bytes.
    pub compressed_size: Option<u64>,
    /// The block map.
    pub bmap: PathBuf,
    /// The checksums.
    pub checksums: PathBuf,
    /// The manifest.
    pub manifest: PathBuf,
    /// The bill of materials.
    pub sbom: PathBuf,
    /// Whether everything was there already, made of the same inputs.
    #[serde(skip)]
    pub unchanged: bool,
}

/// Everything a profile needs, verified and on this machine.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// Packages and their files.
    pub packages: Vec<Package>,
    /// The static runtime.
    pub kiln: PathBuf,
    /// Its SHA-256, hexadecimal.
    pub kiln_sha256: String,
    /// What starts in the initramfs.
    pub init: toolchain::Program,
    /// What compiled both.
    pub toolchain: String,
    /// The crates in it.
    pub crates: Vec<Crate>,
    /// Seconds since 1970.
    pub time: i64,
}

/// A package and its file.
#[derive(Clone, Debug)]
pub struct Package {
    /// What the lock says of it.
    pub pin: Pin,
    /// The `.deb`.
    pub deb: PathBuf,
}

/// Builds the image of `profile`.
///
/// # Errors
/// See [`ImageError`]. Whatever happens, no result is half written: the old ones stay or the new ones are whole.
pub fn build(profile: &Profile, options: &BuildOptions, progress: &Progress) -> Result<BuildOutput, ImageError> {
    let (mut lock, section) = lock(profile, options, progress)?;
    let debs = packages::fetch(&options.packages, &section.packages, progress)?;
    let before = lock.clone();
    let request = RuntimeRequest {
        workspace: &options.workspace,
        arch: profile.arch,
        explicit: options.runtime.as_deref(),
        choice: options.toolchain,
        cache: &options.cache,
        packages: &options.packages,
        locked: options.locked,
    };
    let runtime = toolchain::runtime_binary(&request, &mut lock, progress)?;
    if lock != before {
        lock.save(&options.lock)?;
    }
    let inputs = Inputs {
        packages: section.packages.iter().cloned().zip(debs).map(|(pin, deb)| Package { pin, deb }).collect(),
        kiln: runtime.path,
        kiln_sha256: runtime.sha256,
        init: runtime.init,
        // Where a given binary came from is this machine's business.
        toolchain: if options.runtime.is_some() { "given by the user".to_owned() } else { runtime.toolchain },
        crates: runtime.crates,
        time: time(options.time, section.timestamp)?,
    };
    build_from(profile, &inputs, options, progress)
}

/// The arguments with which a profile's packages are resolved: sources, wanted, excluded.
pub fn request(profile: &Profile) -> (Vec<Source>, Vec<String>, Vec<String>) {
    let sources = profile
        .sources
        .iter()
        .map(|s| {
            let components: Vec<&str> = s.components.iter().map(String::as_str).collect();
            Source::new(&s.suite, &components, profile.arch.debian())
        })
        .collect();
    (sources, profile.wanted(), profile.exclude_packages.clone())
}

/// The lock and the profile's section of it, resolved and saved if the lock does not have it.
///
/// # Errors
/// The archives cannot be read or verified; with [`BuildOptions::locked`], also [`packages::Error::Drift`].
pub fn lock(profile: &Profile, options: &BuildOptions, progress: &Progress) -> Result<(Lock, Section), ImageError> {
    let (sources, wanted, exclude) = request(profile);
    let mut lock = Lock::load(&options.lock)?.unwrap_or_default();
    let request = Section::request(&sources, &wanted, &exclude);
    let known = lock.board(&profile.board, &request).cloned();
    if let (Some(section), false) = (&known, options.locked && !options.packages.offline) {
        return Ok((lock, section.clone()));
    }
    let resolution = packages::resolve(&options.packages, &sources, &wanted, &exclude, progress)?;
    for skipped in &resolution.skipped {
        progress.note(&format!("source {} was not used: {}", skipped.source, skipped.reason));
    }
    if options.locked {
        lock.check_board(&profile.board, &resolution.pins)?;
        if let Some(section) = known {
            return Ok((lock, section));
        }
    }
    let section = Section::new(&sources, &wanted, &exclude, &resolution);
    if !options.locked {
        lock.boards.insert(profile.board.clone(), section.clone());
        lock.save(&options.lock)?;
    }
    Ok((lock, section))
}

/// The time every file of the image carries.
pub(crate) fn time(given: Option<i64>, lock: i64) -> Result<i64, ImageError> {
    let value = match (given, env::var("SOURCE_DATE_EPOCH")) {
        (Some(value), _) => value.to_string(),
        (None, Ok(value)) if !value.is_empty() => value,
        _ => return Ok(lock),
    };
    match value.parse::<u32>() {
        Ok(seconds) => Ok(i64::from(seconds)),
        Err(_) => Err(ImageError::Epoch { value }),
    }
}

/// Builds the image of `profile` from inputs that are there.
///
/// # Errors
/// As [`build`].
pub fn build_from(
    profile: &Profile,
    inputs: &Inputs,
    options: &BuildOptions,
    progress: &Progress,
) -> Result<BuildOutput, ImageError> {
    let stem = options.name.clone().unwrap_or_else(|| format!("kiln-{}", profile.board));
    let stage_key = stage_key(profile, inputs)?;
    let image_key = image_key(&stage_key, profile, options);
    let record = Record::at(&options.cache, &options.out, &stem);
    if let Some(output) = record.find(&image_key) {
        progress.note(&format!("{} is up to date", output.image.display()));
        return Ok(output);
    }

    let stage = match Stage::find(&options.cache, &stage_key) {
        Some(stage) => stage,
        None => make_stage(profile, inputs, options, &stage_key, progress)?,
    };
    let output = write_results(profile, inputs, options, &stem, &stage, progress)?;
    record.save(&image_key, &output)?;
    Ok(output)
}

/// Unpacks the packages, assembles the root, and compresses everything.
fn make_stage(
    profile: &Profile,
    inputs: &Inputs,
    options: &BuildOptions,
    key: &str,
    progress: &Progress,
) -> Result<Stage, ImageError> {
    let step = progress.step("Unpack packages", Some(inputs.packages.len() as u64));
    let filter = PathFilter::new(&profile.exclude_paths, &profile.keep_paths)
        .map_err(|error| RootfsError::Pattern { pattern: error.pattern.clone(), message: error.to_string() })?;
    let everything = PathFilter::default();
    let (mut root, mut boot) = (Tree::default(), Tree::default());
    let mut runtime_version = None;
    for package in &inputs.packages {
        step.message(&package.pin.name);
        let unpacked = Unpacked::open(&options.packages, &package.deb)?;
        let is_kernel = unpacked.entries.iter().any(|entry| entry.path.starts_with("/boot/vmlinuz-"));
        if is_kernel || profile.boot_packages.contains(&package.pin.name) {
            unpacked.add_to(&mut boot, &everything)?;
        } else {
            unpacked.add_to(&mut root, &filter)?;
        }
        if profile.container_runtime.as_ref() == Some(&package.pin.name) {
            runtime_version = Some(package.pin.version.clone());
        }
        step.inc(1);
    }
    step.done("");
    let step = progress.step("Assemble root", None);
    let facts = rootfs::Facts { build_time: inputs.time, runtime_version };
    let root = rootfs::assemble(profile, root, &boot, Content::File(inputs.kiln.clone()), &facts)?;
    step.done(&format!("kernel {}, {} files", root.kernel_version, root.tree.nodes.len()));
    let init = Content::File(inputs.init.path.clone());
    Stage::make(&options.cache, key, profile, &root, &boot, &init, progress)
}

/// Writes the image and everything beside it.
fn write_results(
    profile: &Profile,
    inputs: &Inputs,
    options: &BuildOptions,
    stem: &str,
    stage: &Stage,
    progress: &Progress,
) -> Result<BuildOutput, ImageError> {
    let name = |extension: &str| format!("{stem}.{extension}");
    let path = |extension: &str| options.out.join(name(extension));
    let image_path = path("img");
    let step = progress.step("Write image", None);
    let image = Partial::create(&image_path)?;
    let written = layout::write(image.handle()?, &image_path, profile, stage, inputs.time)?;
    let size = written.file.length();
    step.done(&format!("{} MiB, {} MiB of it written", size >> 20, manifest::written_bytes(&written) >> 20));

    let step = progress.bytes("Hash and compress", Some(size));
    let compressed_path = path("img.zst");
    let compressed = options.compress.then(|| Partial::create(&compressed_path)).transpose()?;
    let handle = compressed.as_ref().map(Partial::handle).transpose()?;
    let (summary, small) = output::hash_and_compress(written.file.file(), size, handle, &|bytes| step.inc(bytes))
        .map_err(ImageError::io("compressing", &image_path))?;
    let map = bmap::render(written.file.file(), size, &written.file.ranges())
        .map_err(ImageError::io("reading", &image_path))?;

    let runtime = Runtime {
        sha256: &inputs.kiln_sha256,
        size: fs::metadata(&inputs.kiln).map_err(ImageError::io("reading", &inputs.kiln))?.len(),
        toolchain: &inputs.toolchain,
    };
    let mut described: Vec<(Pin, Metadata)> = Vec::new();
    for package in &inputs.packages {
        let unpacked = Unpacked::open(&options.packages, &package.deb)?;
        described.push((package.pin.clone(), unpacked.metadata.clone()));
    }
    described.sort_by(|a, b| a.0.cmp(&b.0));
    let pins: Vec<Pin> = described.iter().map(|(pin, _)| pin.clone()).collect();
    let (image_name, compressed_name) = (name("img"), name("img.zst"));
    let manifest_text = manifest::render(&manifest::Facts {
        profile,
        time: inputs.time,
        kernel: &stage.info.kernel,
        verity: &stage.info.verity,
        written: &written,
        pins: &pins,
        runtime: runtime.clone(),
        image: (&image_name, &summary),
        compressed: small.as_ref().map(|small| (compressed_name.as_str(), small)),
    });
    let sbom_text = {
        let subject = sbom::Subject {
            name: format!("kiln-{}-{}", profile.board, profile.version),
            version: &profile.version,
            purpose: "OPERATING-SYSTEM",
            images: &profile.container_images,
            file: &image_name,
            sha256: &summary.sha256,
        };
        sbom::render(&subject, &described, (&runtime, &inputs.crates), inputs.time)
    };

    let mut checksums = format!("{}  {image_name}\n", summary.sha256);
    let mut compressed_size = None;
    if let (Some(file), Some(small)) = (compressed, small) {
        file.commit()?;
        checksums.push_str(&format!("{}  {compressed_name}\n", small.sha256));
        compressed_size = Some(small.size);
    }
    output::write(&path("bmap"), map.as_bytes())?;
    output::write(&path("manifest.json"), &manifest_text)?;
    output::write(&path("spdx.json"), &sbom_text)?;
    output::write(&path("sha256"), checksums.as_bytes())?;
    // Last, so that an image is never newer than what describes it.
    image.commit()?;
    step.done(&compressed_size.map(|s| format!("{} MiB compressed", s >> 20)).unwrap_or_default());
    Ok(BuildOutput {
        written: manifest::written_bytes(&written),
        image: image_path,
        image_size: size,
        sha256: summary.sha256,
        compressed: compressed_size.map(|_| compressed_path),
        compressed_size,
        bmap: path("bmap"),
        checksums: path("sha256"),
        manifest: path("manifest.json"),
        sbom: path("spdx.json"),
        unchanged: false,
    })
}
