//! `--kube-apiserver-arg`: the settings of Kubernetes' own API server that this one has too, by their names there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kiln_apimachinery::duration;
use kiln_apiserver::{AuditConfig, AuditLog, Config, OidcConfig, Plugin, PodSecurityConfig};

use crate::exit::Failure;

/// Sets one thing.
type Set = fn(&mut Draft, &str) -> Result<(), String>;

/// What can be set.
const KNOWN: &[(&str, Set)] = &[
    ("admission-control-config-file", |d, v| {
        d.config.pod_security = PodSecurityConfig::read(Path::new(v)).map_err(|error| error.to_string())?;
        Ok(())
    }),
    ("api-audiences", |d, v| list(&mut d.config.service_accounts.audiences, v)),
    ("audit-log-maxage", |d, v| {
        let mut days = 0;
        number(&mut days, v)?;
        d.log.max_age = Duration::from_secs(u64::from(u32::min(days, 100_000)) * 86_400);
        Ok(())
    }),
    ("audit-log-maxbackup", |d, v| number(&mut d.log.max_backups, v)),
    ("audit-log-maxsize", |d, v| {
        let mut megabytes = 0;
        number(&mut megabytes, v)?;
        d.log.max_size = u64::from(u32::min(megabytes, 1 << 20)) << 20;
        Ok(())
    }),
    ("audit-log-path", |d, v| {
        d.log.path = v.into();
        Ok(())
    }),
    ("audit-policy-file", |d, v| {
        d.policy = Some(file(v)?);
        Ok(())
    }),
    ("disable-admission-plugins", |d, v| plugins(&mut d.disabled, v)),
    ("enable-admission-plugins", |d, v| plugins(&mut d.enabled, v)),
    ("max-mutating-requests-inflight", |d, v| number(&mut d.mutating, v)),
    ("max-requests-inflight", |d, v| number(&mut d.reading, v)),
    ("min-request-timeout", |d, v| {
        let seconds = v.parse().map_err(|_| format!("`{v}` is no number of seconds"))?;
        d.config.watch_timeout = Duration::from_secs(seconds);
        Ok(())
    }),
    ("oidc-ca-file", |d, v| {
        d.oidc.ca_pem = Some(file(v)?);
        Ok(())
    }),
    ("oidc-client-id", |d, v| text(&mut d.oidc.client_id, v)),
    ("oidc-groups-claim", |d, v| text(d.oidc.groups_claim.insert(String::new()), v)),
    ("oidc-groups-prefix", |d, v| text(&mut d.oidc.groups_prefix, v)),
    ("oidc-issuer-url", |d, v| text(&mut d.oidc.issuer_url, v)),
    ("oidc-required-claim", |d, v| {
        let (claim, value) = v.split_once('=').ok_or("write it as oidc-required-claim=CLAIM=VALUE")?;
        d.oidc.required_claims.push((claim.to_owned(), value.to_owned()));
        Ok(())
    }),
    ("oidc-signing-algs", |d, v| {
        d.oidc.signing_algs.clear();
        list(&mut d.oidc.signing_algs, v)
    }),
    ("oidc-username-claim", |d, v| text(&mut d.oidc.username_claim, v)),
    ("oidc-username-prefix", |d, v| text(d.oidc.username_prefix.insert(String::new()), v)),
    ("request-timeout", |d, v| {
        d.config.request_timeout = duration::parse_unsigned(v)?;
        Ok(())
    }),
    ("service-account-extend-token-expiration", |d, v| {
        d.config.service_accounts.extend_expiration = v.parse().map_err(|_| "write true or false".to_owned())?;
        Ok(())
    }),
    ("service-account-issuer", |d, v| {
        // The first one given takes the default's place.
        if !std::mem::replace(&mut d.has_issuer, true) {
            d.config.service_accounts.issuers.clear();
        }
        d.config.service_accounts.issuers.push(v.to_owned());
        Ok(())
    }),
    ("service-account-jwks-uri", |d, v| {
        d.config.service_accounts.jwks_uri = Some(v.to_owned());
        Ok(())
    }),
    ("service-account-key-file", |d, v| {
        d.config.service_accounts.verification_keys_pem.push(file(v)?);
        Ok(())
    }),
    ("service-account-max-token-expiration", |d, v| {
        d.config.service_accounts.max_expiration = Some(duration::parse_unsigned(v)?);
        Ok(())
    }),
    ("shutdown-delay-duration", |d, v| {
        d.config.shutdown_delay = duration::parse_unsigned(v)?;
        Ok(())
    }),
];

/// The configuration with what is only whole at the end.
struct Draft {
    config: Config,
    has_issuer: bool,
    reading: usize,
    mutating: usize,
    policy: Option<String>,
    log: AuditLog,
    oidc: OidcConfig,
    enabled: Vec<Plugin>,
    disabled: Vec<Plugin>,
}

/// Checks that a setting is one, when the command line is read.
///
/// # Errors
/// What there is to set.
pub(super) fn parse(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').unwrap_or((text, "true"));
    let name = name.trim_start_matches('-');
    if KNOWN.iter().any(|(known, _)| *known == name) {
        return Ok((name.to_owned(), value.to_owned()));
    }
    let names: Vec<&str> = KNOWN.iter().map(|(name, _)| *name).collect();
    Err(format!("the API server has no `{name}`; it has {}", names.join(", ")))
}

/// Carries them out.
///
/// # Errors
/// The first that can't be.
pub(super) fn apply(config: Config, arguments: &[(String, String)]) -> Result<Config, Failure> {
    let log = AuditLog { path: PathBuf::new(), max_age: Duration::ZERO, max_backups: 0, max_size: 0 };
    let oidc = OidcConfig::new("", "");
    let mut draft = Draft {
        config,
        has_issuer: false,
        reading: 400,
        mutating: 200,
        policy: None,
        log,
        oidc,
        enabled: Vec::new(),
        disabled: Vec::new(),
    };
    for (name, value) in arguments {
        let known = KNOWN.iter().find(|(known, _)| known == name);
        let set = known.map_or(Ok(()), |(_, set)| set(&mut draft, value));
        set.map_err(|why| Failure::Input(format!("--kube-apiserver-arg {name}={value}: {why}")))?;
    }
    if let Some(both) = draft.enabled.iter().find(|plugin| draft.disabled.contains(plugin)) {
        let text =
            format!("--kube-apiserver-arg: {both} is in enable-admission-plugins and in disable-admission-plugins");
        return Err(Failure::Input(text));
    }
    draft.enabled.iter().for_each(|plugin| draft.config.plugins.set(*plugin, true));
    draft.disabled.iter().for_each(|plugin| draft.config.plugins.set(*plugin, false));
    draft.config.seats = draft.reading + draft.mutating;
    draft.config.audit = match (draft.policy, draft.log.path.as_os_str().is_empty()) {
        (Some(policy), false) => Some(AuditConfig { policy, log: draft.log }),
        (None, true) => None,
        _ => {
            let text =
                "--kube-apiserver-arg: audit-policy-file says what is logged and audit-log-path where; give both";
            return Err(Failure::Input(text.to_owned()));
        }
    };
    let oidc = draft.oidc;
    draft.config.oidc = match (oidc.issuer_url.is_empty(), oidc.client_id.is_empty()) {
        (false, false) => Some(oidc),
        (true, true) => None,
        _ => {
            let text = "--kube-apiserver-arg: oidc-issuer-url and oidc-client-id belong together; give both";
            return Err(Failure::Input(text.to_owned()));
        }
    };
    Ok(draft.config)
}

fn list(to: &mut Vec<String>, text: &str) -> Result<(), String> {
    to.extend(text.split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()));
    Ok(())
}

fn text(to: &mut String, text: &str) -> Result<(), String> {
    text.clone_into(to);
    Ok(())
}

fn number<T: std::str::FromStr>(to: &mut T, text: &str) -> Result<(), String> {
    *to = text.parse().map_err(|_| format!("`{text}` is no number that will do here"))?;
    Ok(())
}

fn file(path: &str) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

fn plugins(named: &mut Vec<Plugin>, text: &str) -> Result<(), String> {
    let mut names = Vec::new();
    list(&mut names, text)?;
    for name in names {
        named.push(name.parse()?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(arguments: &[&str]) -> Result<Config, Failure> {
        let parsed: Vec<_> = arguments.iter().map(|text| parse(text).unwrap()).collect();
        apply(Config::default(), &parsed)
    }

    #[test]
    fn settings_have_the_names_and_values_of_the_reference() {
        let config = set(&[
            "service-account-issuer=https://a",
            "--service-account-issuer=https://b",
            "api-audiences=x,y",
            "oidc-issuer-url=https://issuer",
            "oidc-client-id=kiln",
            "oidc-username-prefix=-",
            "max-requests-inflight=100",
            "service-account-max-token-expiration=1h30m",
            "enable-admission-plugins=NodeRestriction,OwnerReferencesPermissionEnforcement",
            "enable-admission-plugins=ExtendedResourceToleration",
        ])
        .unwrap();
        assert_eq!(config.service_accounts.issuers, ["https://a", "https://b"]);
        assert_eq!(config.service_accounts.audiences, ["x", "y"]);
        assert_eq!(config.service_accounts.max_expiration, Some(Duration::from_secs(5400)));
        assert!(config.plugins.has(Plugin::OwnerReferencesPermissionEnforcement));
        assert!(config.plugins.has(Plugin::ExtendedResourceToleration));
        assert_eq!(config.seats, 300);
        let oidc = config.oidc.unwrap();
        assert_eq!(
            (&*oidc.issuer_url, &*oidc.client_id, oidc.username_prefix.as_deref()),
            ("https://issuer", "kiln", Some("-"))
        );
    }

    #[test]
    fn plugins_that_are_an_option_are_off_unless_they_are_named_and_all_others_on() {
        let options = [Plugin::OwnerReferencesPermissionEnforcement, Plugin::ExtendedResourceToleration];
        let plugins = set(&["enable-admission-plugins=NodeRestriction"]).unwrap().plugins;
        for plugin in Plugin::ALL {
            assert_eq!(plugins.has(*plugin), !options.contains(plugin), "{plugin}");
        }
        let plugins = set(&["disable-admission-plugins=PodSecurity,LimitRanger"]).unwrap().plugins;
        assert!(
            !plugins.has(Plugin::PodSecurity) && !plugins.has(Plugin::LimitRanger) && plugins.has(Plugin::Priority)
        );
    }

    #[test]
    fn what_there_is_not_is_refused_with_what_there_is() {
        let why = parse("feature-gates=A=true").unwrap_err();
        assert!(why.contains("no `feature-gates`") && why.contains("service-account-issuer"), "{why}");
        let wrong = |text| set(&[text]).err().unwrap().to_string();
        assert!(wrong("request-timeout=soon").contains("no duration"));
        assert!(wrong("enable-admission-plugins=Nonsense").contains("NodeRestriction"));
        assert!(wrong("disable-admission-plugins=Nonsense").contains("NodeRestriction"));
        let both = set(&["enable-admission-plugins=Priority", "disable-admission-plugins=PodSecurity,Priority"]);
        assert!(both.err().unwrap().to_string().contains("Priority is in enable-admission-plugins and in disable"));
        assert!(wrong("oidc-client-id=x").contains("give both"));
        assert!(wrong("audit-log-path=-").contains("give both"));
        assert!(wrong("audit-policy-file=/not/there").contains("audit-policy-file=/not/there"));
        assert!(wrong("admission-control-config-file=/not/there").contains("/not/there: No such file"));
    }
}
