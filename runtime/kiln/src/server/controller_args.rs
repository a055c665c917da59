//! `--kube-controller-manager-arg`: the settings of Kubernetes' own controllers that these have too, by their names there.

use kiln_controllers::Tuning;

/// A setting that is one.
pub(super) type Setting = (String, String);

/// Checks that a setting is one, when the command line is read.
///
/// # Errors
/// What there is to set, or what the value must be.
pub(super) fn parse(text: &str) -> Result<Setting, String> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    let name = name.trim_start_matches('-');
    Tuning::default().set(name, value)?;
    Ok((name.to_owned(), value.to_owned()))
}

/// What the controllers are told. The last one given holds, as with Kubernetes' own flags.
pub(super) fn tuning(settings: &[Setting]) -> Tuning {
    let mut tuning = Tuning::default();
    for (name, value) in settings {
        // They were tried out when they were read.
        _ = tuning.set(name, value);
    }
    tuning
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_controllers_take_settings_by_their_names_and_the_last_one_holds() {
        let given = ["node-monitor-grace-period=30s", "--node-monitor-grace-period=45s"];
        let given: Vec<Setting> = given.into_iter().map(|text| parse(text).unwrap()).collect();
        assert_eq!(tuning(&given).node_grace.as_secs(), 45);
        assert!(parse("v=4").unwrap_err().contains("they have"));
        assert!(parse("node-monitor-grace-period").is_err());
    }
}
