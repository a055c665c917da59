//! A chart: its metadata, values, templates and files, and the charts in it. Read from a gzipped tar archive, whose size is limited.

mod coalesce;
mod dependencies;

use std::collections::BTreeMap;
use std::io::Read as _;

use serde_json::{Map, Value};

pub(crate) use coalesce::coalesce;
pub use coalesce::merge;
pub(crate) use dependencies::process;

use crate::ChartError;
use crate::yaml;

/// The most that an archive may hold when it is unpacked, as Helm has it.
const LARGEST: usize = 100 << 20;
/// How deep charts may lie in charts.
const DEPTH: usize = 8;

/// A chart.
#[derive(Debug, Clone, Default)]
pub struct Chart {
    /// Its name, or what a dependency calls it.
    pub(crate) name: String,
    /// What Chart.yaml says.
    pub(crate) metadata: Map<String, Value>,
    pub(crate) values: Map<String, Value>,
    /// By their names within the chart.
    pub(crate) templates: Vec<(String, String)>,
    pub(crate) files: Vec<(String, Vec<u8>)>,
    /// What values have to be like, as JSON.
    pub(crate) schema: Option<Vec<u8>>,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) children: Vec<Chart>,
}

/// What Chart.yaml says of another chart.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) condition: String,
    pub(crate) tags: Vec<String>,
    pub(crate) alias: String,
    pub(crate) imports: Vec<Value>,
    pub(crate) enabled: bool,
}

impl Chart {
    /// Reads an archive.
    ///
    /// # Errors
    /// When it is no chart.
    pub fn load(archive: &[u8]) -> Result<Self, ChartError> {
        from_archive(archive, 0)
    }

    /// Puts a chart together from its files, by their names within it.
    ///
    /// # Errors
    /// When they are no chart.
    pub fn from_files(files: Vec<(String, Vec<u8>)>) -> Result<Self, ChartError> {
        from_files(files, 0)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its version.
    pub fn version(&self) -> &str {
        self.text("version")
    }

    /// What Chart.yaml says.
    pub fn metadata(&self) -> &Map<String, Value> {
        &self.metadata
    }

    pub(crate) fn text(&self, field: &str) -> &str {
        self.metadata.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    pub(crate) fn is_library(&self) -> bool {
        self.text("type") == "library"
    }

    /// The files in `crds/`, those of the charts in it too.
    pub(crate) fn definitions(&self) -> Vec<&[u8]> {
        let own = self.files.iter().filter(|(name, _)| {
            name.starts_with("crds/") && [".yaml", ".yml", ".json"].iter().any(|ending| name.ends_with(ending))
        });
        let mut all: Vec<&[u8]> = own.map(|(_, bytes)| bytes.as_slice()).collect();
        self.children.iter().for_each(|child| all.append(&mut child.definitions()));
        all
    }
}

fn wrong(what: impl Into<String>) -> ChartError {
    ChartError::Chart(what.into())
}

fn from_archive(archive: &[u8], depth: usize) -> Result<Chart, ChartError> {
    let tar = crate::gzip::unpack(archive, LARGEST).map_err(wrong)?;
    let mut files = Vec::new();
    let mut archive = tar::Archive::new(tar.as_slice());
    let entries = archive.entries().map_err(|error| wrong(format!("cannot read the archive: {error}")))?;
    for entry in entries {
        let mut entry = entry.map_err(|error| wrong(format!("cannot read the archive: {error}")))?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        // The first part is the folder of the whole.
        let Some((_, name)) = path.split_once('/') else {
            return Err(wrong("chart illegally contains content outside the base directory"));
        };
        if name.is_empty() || name.split('/').any(|part| part == "..") || name.starts_with('/') {
            return Err(wrong(format!("chart contains illegally named files: {path:?}")));
        }
        let name = name.to_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(|error| wrong(format!("cannot read the archive: {error}")))?;
        files.push((name, bytes));
    }
    if files.is_empty() {
        return Err(wrong("no files in chart archive"));
    }
    from_files(files, depth)
}

fn from_files(files: Vec<(String, Vec<u8>)>, depth: usize) -> Result<Chart, ChartError> {
    if depth > DEPTH {
        return Err(wrong("charts lie too deep in each other"));
    }
    let mut chart = Chart::default();
    let mut children: BTreeMap<String, Vec<(String, Vec<u8>)>> = BTreeMap::new();
    let mut requirements = None;
    for (name, bytes) in files {
        // Windows' mark before UTF-8.
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").map(<[u8]>::to_vec).unwrap_or(bytes);
        let told = |what: &str, error: yaml::YamlError| wrong(format!("cannot load {what}: {error}"));
        match name.as_str() {
            "Chart.yaml" => chart.metadata = map(&bytes).map_err(|error| told("Chart.yaml", error))?,
            "Chart.lock" | "requirements.lock" => chart.files.push((name, bytes)),
            "values.schema.json" => chart.schema = Some(bytes),
            "values.yaml" => chart.values = values(&bytes).map_err(|error| told("values.yaml", error))?,
            "requirements.yaml" => {
                requirements = Some(map(&bytes).map_err(|error| told("requirements.yaml", error))?);
            }
            _ if name.starts_with("templates/") => {
                chart.templates.push((name, String::from_utf8_lossy(&bytes).into_owned()));
            }
            _ if name.starts_with("charts/") && !name.ends_with(".prov") => {
                let within = &name["charts/".len()..];
                let child = within.split('/').next().unwrap_or_default().to_owned();
                children.entry(child).or_default().push((within.to_owned(), bytes));
            }
            _ => chart.files.push((name, bytes)),
        }
    }
    if chart.metadata.is_empty() {
        return Err(wrong("Chart.yaml file is missing"));
    }
    chart.name = chart.text("name").to_owned();
    if chart.name.is_empty() || chart.name.contains('/') {
        return Err(wrong(format!("validation: chart.metadata.name {:?} is invalid", chart.name)));
    }
    let listed = requirements.as_ref().unwrap_or(&chart.metadata).get("dependencies").and_then(Value::as_array);
    chart.dependencies = listed.into_iter().flatten().map(Dependency::of).collect();
    for (name, mut files) in children {
        if name.starts_with(['_', '.']) {
            continue;
        }
        let child = if name.ends_with(".tgz") {
            let Some((_, bytes)) = files.pop() else { continue };
            from_archive(&bytes, depth + 1)
        } else {
            let within = |(name, bytes): (String, Vec<u8>)| Some((name.split_once('/')?.1.to_owned(), bytes));
            let files: Vec<_> = files.into_iter().filter_map(within).collect();
            if files.is_empty() {
                continue;
            }
            from_files(files, depth + 1)
        };
        let child =
            child.map_err(|error| wrong(format!("error unpacking subchart {name} in {}: {error}", chart.name)))?;
        chart.children.push(child);
    }
    Ok(chart)
}

fn map(bytes: &[u8]) -> Result<Map<String, Value>, yaml::YamlError> {
    match yaml::parse(&String::from_utf8_lossy(bytes))? {
        Value::Object(map) => Ok(map),
        _ => Ok(Map::new()),
    }
}

/// The documents of values.yaml, each over the one before.
fn values(bytes: &[u8]) -> Result<Map<String, Value>, yaml::YamlError> {
    let mut values = Map::new();
    for document in yaml::documents(&String::from_utf8_lossy(bytes))? {
        if let Value::Object(document) = document {
            merge(&mut values, document);
        }
    }
    Ok(values)
}

impl Dependency {
    fn of(value: &Value) -> Self {
        let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let list = |field: &str| value.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
        Self {
            name: text("name"),
            version: text("version"),
            condition: text("condition"),
            tags: list("tags").iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            alias: text("alias"),
            imports: list("import-values"),
            enabled: true,
        }
    }
}
