//! `--kube-scheduler-arg`: the settings of Kubernetes' own scheduler that this one has too, by their names there.

use std::path::PathBuf;

use kiln_scheduler::Config;

use crate::exit::Failure;

/// Checks that a setting is one, when the command line is read. The one there is: the file with the configuration.
///
/// # Errors
/// What there is to set.
pub(super) fn parse(text: &str) -> Result<PathBuf, String> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    match name.trim_start_matches('-') {
        "config" if !value.is_empty() => Ok(value.into()),
        "config" => Err("write it as config=FILE".to_owned()),
        name => Err(format!("the scheduler has no `{name}`; it has config, a KubeSchedulerConfiguration")),
    }
}

/// What the scheduler is told.
///
/// # Errors
/// The file can't be read, or what it says can't be done.
pub(super) fn config(files: &[PathBuf], host: &str) -> Result<Config, Failure> {
    // The last one given holds, as with Kubernetes' own flags.
    let Some(file) = files.last() else { return Ok(Config::new().on_host(host)) };
    let wrong = |why: String| Failure::Input(format!("--kube-scheduler-arg config={}: {why}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    let config = Config::parse(&text).map_err(|error| wrong(error.to_string()))?;
    Ok(config.on_host(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheduler_takes_a_configuration_by_its_file_and_nothing_else() {
        assert_eq!(parse("config=/etc/scheduler.yaml"), Ok(PathBuf::from("/etc/scheduler.yaml")));
        assert_eq!(parse("--config=x"), Ok(PathBuf::from("x")));
        assert!(parse("config").is_err());
        assert!(parse("v=4").unwrap_err().contains("it has config"));
    }

    #[test]
    fn a_configuration_that_can_not_be_used_is_refused_with_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("scheduler.yaml");
        let told = |text: &str| {
            std::fs::write(&file, text).unwrap();
            config(std::slice::from_ref(&file), "host").map(|_| ()).map_err(|failure| failure.to_string())
        };
        let head = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";
        assert_eq!(told(head), Ok(()));
        let why = told(&format!("{head}percentageOfNodesToScore: 200\n")).unwrap_err();
        assert!(why.contains("scheduler.yaml") && why.contains("percentageOfNodesToScore"), "{why}");
        assert!(config(&[folder.path().join("none")], "host").is_err());
    }
}
