//! From the file to profiles: defaults filled in, sets of plugins merged as Kubernetes merges them.

use std::time::Duration;

use serde::de::DeserializeOwned;

use super::args::{
    FileBalanced, FileDevices, FileFit, FileInterPod, FileNodeAffinity, FilePreemption, FileSpread, FileVolumes,
    FitArgs, ResourceWeight, ScoringStrategy, StrategyType, default_resources,
};
use super::file::{File, FileArgs, FilePlugin, FileProfile, FileSet};
use super::{Config, ConfigError, ProfileConfig, extenders};
use crate::framework::{PluginId, Plugins};
use crate::plugins::SpreadDefaults;

const SCORERS: [PluginId; 7] = [
    PluginId::TaintToleration,
    PluginId::NodeAffinity,
    PluginId::NodeResourcesFit,
    PluginId::PodTopologySpread,
    PluginId::InterPodAffinity,
    PluginId::NodeResourcesBalancedAllocation,
    PluginId::ImageLocality,
];
const FILTERS: [PluginId; 14] = [
    PluginId::NodeUnschedulable,
    PluginId::NodeName,
    PluginId::TaintToleration,
    PluginId::NodeAffinity,
    PluginId::NodePorts,
    PluginId::NodeResourcesFit,
    PluginId::VolumeRestrictions,
    PluginId::NodeVolumeLimits,
    PluginId::VolumeBinding,
    PluginId::VolumeZone,
    PluginId::PodTopologySpread,
    PluginId::InterPodAffinity,
    PluginId::NodeDeclaredFeatures,
    PluginId::DynamicResources,
];

fn wrong(text: impl Into<String>) -> ConfigError {
    ConfigError::Value(text.into())
}

/// Puts it all together.
pub(super) fn resolve(file: &File) -> Result<Config, ConfigError> {
    let mut config = Config::new();
    config.extenders = extenders::resolve(&file.extenders)?;
    let seconds = |name: &str, value: Option<i64>, default: Duration| match value {
        None => Ok(default),
        Some(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds.unsigned_abs())),
        Some(seconds) => Err(wrong(format!("{name}: {seconds} must be greater than 0"))),
    };
    config.initial_backoff =
        seconds("podInitialBackoffSeconds", file.pod_initial_backoff_seconds, config.initial_backoff)?;
    config.max_backoff = seconds("podMaxBackoffSeconds", file.pod_max_backoff_seconds, config.max_backoff)?;
    if config.max_backoff < config.initial_backoff {
        return Err(wrong("podMaxBackoffSeconds: it must be at least podInitialBackoffSeconds"));
    }
    let percentage = percentage(file.percentage_of_nodes_to_score)?.unwrap_or(0);
    if file.profiles.is_empty() {
        config.profiles[0].percentage = percentage;
    } else {
        config.profiles.clear();
    }
    for given in &file.profiles {
        let name = match &given.scheduler_name {
            Some(name) if !name.is_empty() => name.clone(),
            _ if file.profiles.len() == 1 => ProfileConfig::default().name,
            _ => return Err(wrong("profiles: with more than one each needs a schedulerName")),
        };
        if config.profiles.iter().any(|profile| profile.name == name) {
            return Err(wrong(format!("profiles: there are two with the schedulerName {name:?}")));
        }
        let mut profile = ProfileConfig { name, percentage, ..ProfileConfig::default() };
        plugins(&mut profile, given)?;
        for args in &given.plugin_config {
            settings(&mut profile, args)?;
        }
        if let Some(own) = self::percentage(given.percentage_of_nodes_to_score)? {
            profile.percentage = own;
        }
        config.profiles.push(profile);
    }
    let managed = file.extenders.iter().flat_map(|extender| &extender.managed_resources);
    let managed = managed.filter(|resource| resource.ignored_by_scheduler);
    let ignored: Vec<_> = managed.map(|resource| resource.name.clone()).collect();
    if !ignored.is_empty() {
        // As in the reference, in place of what a profile names itself.
        config.profiles.iter_mut().for_each(|profile| profile.fit.ignored_resources.clone_from(&ignored));
    }
    Ok(config)
}

fn percentage(given: Option<i64>) -> Result<Option<usize>, ConfigError> {
    let Some(given) = given else { return Ok(None) };
    match usize::try_from(given) {
        Ok(percentage) if percentage <= 100 => Ok(Some(percentage)),
        _ => Err(wrong(format!("percentageOfNodesToScore: {given} is not in the range of 0 to 100"))),
    }
}

fn id(plugin: &FilePlugin) -> Result<PluginId, ConfigError> {
    PluginId::parse(&plugin.name).ok_or_else(|| {
        let names: Vec<_> = PluginId::ALL.iter().map(|id| id.name()).collect();
        wrong(format!("plugins: there is no {:?}; there are {}", plugin.name, names.join(", ")))
    })
}

/// A plugin with the weight it was given; 0 for none.
type Weighted = (PluginId, i64);

/// The plugins of all extension points, before each has its say.
fn everywhere(set: &FileSet) -> Result<Vec<Weighted>, ConfigError> {
    let enabled = set.enabled.iter().map(|plugin| Ok((id(plugin)?, plugin.weight)));
    let enabled: Vec<Weighted> = enabled.collect::<Result<_, ConfigError>>()?;
    let is_off = |id: PluginId| set.disabled.iter().any(|plugin| plugin.name == "*" || plugin.name == id.name());
    let given = |id: PluginId| enabled.iter().find(|(known, _)| *known == id).copied();
    let kept = PluginId::ALL.iter().filter(|id| !is_off(**id));
    let mut all: Vec<Weighted> = kept.map(|id| given(*id).unwrap_or((*id, id.default_weight()))).collect();
    for plugin in enabled {
        if all.iter().all(|(known, _)| *known != plugin.0) {
            all.push(plugin);
        }
    }
    Ok(all)
}

/// The plugins of one extension point, which `able` can have.
fn at(set: &FileSet, everywhere: &[Weighted], able: &[PluginId]) -> Result<Vec<Weighted>, ConfigError> {
    let own = set.enabled.iter().map(|plugin| Ok((id(plugin)?, plugin.weight)));
    let own: Vec<Weighted> = own.collect::<Result<_, ConfigError>>()?;
    let is_off = |id: PluginId| set.disabled.iter().any(|plugin| plugin.name == "*" || plugin.name == id.name());
    let is_own = |id: PluginId| own.iter().any(|(known, _)| *known == id);
    // What is set here takes the place of what is set for all; and of these those that were among them go first.
    let (overrides, further): (Vec<Weighted>, Vec<Weighted>) =
        own.iter().copied().partition(|(id, _)| everywhere.iter().any(|(known, _)| known == id));
    let common = everywhere.iter().copied().filter(|(id, _)| able.contains(id) && !is_off(*id) && !is_own(*id));
    let plugins: Vec<Weighted> = overrides.into_iter().chain(common).chain(further).collect();
    match plugins.iter().find(|(id, _)| !able.contains(id)) {
        Some((id, _)) => Err(wrong(format!("plugins: {id} does nothing at that extension point"))),
        None => Ok(plugins),
    }
}

fn plugins(profile: &mut ProfileConfig, given: &FileProfile) -> Result<(), ConfigError> {
    let sets = &given.plugins;
    let all = everywhere(&sets.multi_point)?;
    let ids = |plugins: Vec<Weighted>| plugins.into_iter().map(|(id, _)| id);
    profile.pre_enqueue = ids(at(
        &sets.pre_enqueue,
        &all,
        &[PluginId::SchedulingGates, PluginId::DefaultPreemption, PluginId::DynamicResources],
    )?)
    .collect();
    // A plugin that judges nodes looks at the pod first; turned off for either it does neither.
    let before: Plugins = ids(at(&sets.pre_filter, &all, &FILTERS)?).collect();
    let filters = ids(at(&sets.filter, &all, &FILTERS)?);
    profile.filters = filters.filter(|id| before.contains(*id)).collect();
    profile.post_filter = ids(at(&sets.post_filter, &all, &[PluginId::DefaultPreemption])?).collect();
    let compared: Plugins = ids(at(&sets.pre_score, &all, &SCORERS)?).collect();
    let scores = at(&sets.score, &all, &SCORERS)?;
    let scores = scores.into_iter().filter(|(id, _)| compared.contains(*id));
    profile.scores = scores.map(|(id, weight)| (id, if weight == 0 { 1 } else { weight })).collect();
    if at(&sets.bind, &all, &[PluginId::DefaultBinder])?.is_empty() {
        let text = format!("at least one bind plugin is needed for profile with scheduler name {:?}", profile.name);
        return Err(wrong(text));
    }
    if at(&sets.queue_sort, &all, &[PluginId::PrioritySort])?.is_empty() {
        let text = format!("only one queue sort plugin required for profile with scheduler name {:?}", profile.name);
        return Err(wrong(text));
    }
    let reserving = [PluginId::VolumeBinding, PluginId::DynamicResources];
    for set in [&sets.reserve, &sets.pre_bind] {
        at(set, &all, &reserving)?;
    }
    for set in [&sets.permit, &sets.post_bind] {
        at(set, &all, &[])?;
    }
    Ok(())
}

fn read<T: DeserializeOwned + Default>(args: &FileArgs) -> Result<T, ConfigError> {
    if args.args.is_null() {
        return Ok(T::default());
    }
    serde_json::from_value(args.args.clone()).map_err(|error| wrong(format!("pluginConfig {}: {error}", args.name)))
}

fn weighted(mut resources: Vec<ResourceWeight>) -> Vec<ResourceWeight> {
    if resources.is_empty() {
        return default_resources();
    }
    for resource in &mut resources {
        resource.weight = if resource.weight == 0 { 1 } else { resource.weight };
    }
    resources
}

fn settings(profile: &mut ProfileConfig, args: &FileArgs) -> Result<(), ConfigError> {
    match PluginId::parse(&args.name) {
        Some(PluginId::NodeResourcesFit) => {
            let given: FileFit = read(args)?;
            let strategy = given.scoring_strategy.unwrap_or_default();
            let shape = strategy.requested_to_capacity_ratio.unwrap_or_default().shape;
            if strategy.kind == StrategyType::RequestedToCapacityRatio && shape.is_empty() {
                return Err(wrong("pluginConfig NodeResourcesFit: RequestedToCapacityRatio needs a shape"));
            }
            let scoring_strategy =
                ScoringStrategy { kind: strategy.kind, resources: weighted(strategy.resources), shape };
            profile.fit = FitArgs {
                ignored_resources: given.ignored_resources,
                ignored_resource_groups: given.ignored_resource_groups,
                scoring_strategy,
            };
        }
        Some(PluginId::NodeResourcesBalancedAllocation) => {
            profile.balanced = weighted(read::<FileBalanced>(args)?.resources);
        }
        Some(PluginId::InterPodAffinity) => {
            let given: FileInterPod = read(args)?;
            let weight = given.hard_pod_affinity_weight.unwrap_or(1);
            if !(0..=100).contains(&weight) {
                let text = format!(
                    "pluginConfig InterPodAffinity: hardPodAffinityWeight {weight} is not in the range of 0 to 100"
                );
                return Err(wrong(text));
            }
            profile.hard_pod_affinity_weight = weight;
            profile.ignore_preferred_of_existing = given.ignore_preferred_terms_of_existing_pods;
        }
        Some(PluginId::NodeAffinity) => profile.added_affinity = read::<FileNodeAffinity>(args)?.added_affinity,
        Some(PluginId::PodTopologySpread) => {
            let given: FileSpread = read(args)?;
            profile.spread = match given.defaulting_type.as_deref() {
                Some("List") => SpreadDefaults::List(given.default_constraints),
                None | Some("System") if given.default_constraints.is_empty() => SpreadDefaults::System,
                None | Some("System") => {
                    let text = "pluginConfig PodTopologySpread: when defaultingType is System, defaultConstraints must be empty";
                    return Err(wrong(text));
                }
                Some(other) => {
                    return Err(wrong(format!(
                        "pluginConfig PodTopologySpread: defaultingType {other:?} is neither System nor List"
                    )));
                }
            };
        }
        Some(PluginId::VolumeBinding) => {
            let given: FileVolumes = read(args)?;
            if !given.shape.is_empty() {
                return Err(wrong(
                    "pluginConfig VolumeBinding: shape needs the feature StorageCapacityScoring, which is off",
                ));
            }
            profile.bind_timeout = given.bind_timeout_seconds.map_or(profile.bind_timeout, Duration::from_secs);
        }
        Some(PluginId::DefaultPreemption) => {
            let given: FilePreemption = read(args)?;
            profile.candidates_percentage = given.min_candidate_nodes_percentage.unwrap_or(10);
            profile.candidates_at_least = given.min_candidate_nodes_absolute.unwrap_or(100);
            if profile.candidates_percentage > 100 {
                return Err(wrong(
                    "pluginConfig DefaultPreemption: minCandidateNodesPercentage is not in the range of 0 to 100",
                ));
            }
            if profile.candidates_percentage == 0 && profile.candidates_at_least == 0 {
                return Err(wrong("pluginConfig DefaultPreemption: both values must not be zero"));
            }
        }
        Some(PluginId::DynamicResources) => {
            let FileDevices { filter_timeout: _, binding_timeout: _, .. } = read(args)?;
        }
        Some(_) if args.args.is_null() => {}
        _ => return Err(wrong(format!("pluginConfig: {:?} has no settings", args.name))),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(rest: &str) -> Result<Config, String> {
        let head = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";
        Config::parse(&format!("{head}{rest}")).map_err(|error| error.to_string())
    }

    #[test]
    fn the_documented_sample_is_read() {
        let config = Config::parse(include_str!("../../../../configs/scheduler.yaml")).unwrap();
        let packer = &config.profiles[1];
        assert_eq!((&*packer.name, packer.fit.scoring_strategy.kind), ("packer", StrategyType::MostAllocated));
        assert!(packer.scores.iter().all(|(id, _)| *id != PluginId::NodeResourcesBalancedAllocation));
    }

    #[test]
    fn without_profiles_there_is_the_default_one() {
        let config = config("percentageOfNodesToScore: 30\nleaderElection: {leaderElect: false}\n").unwrap();
        assert_eq!((&*config.profiles[0].name, config.profiles[0].percentage), ("default-scheduler", 30));
    }

    #[test]
    fn plugins_are_turned_off_on_and_weighed_as_the_documentation_shows() {
        // The documentation's own example of two profiles.
        let config = config(
            "profiles:\n- schedulerName: default-scheduler\n- schedulerName: no-scoring-scheduler\n  plugins:\n    \
             preScore:\n      disabled:\n      - name: '*'\n    score:\n      disabled:\n      - name: '*'\n",
        );
        let config = config.unwrap();
        assert_eq!(config.profiles[0].scores.len(), SCORERS.len());
        assert_eq!((&*config.profiles[1].name, config.profiles[1].scores.len()), ("no-scoring-scheduler", 0));
    }

    #[test]
    fn what_is_set_at_one_point_goes_before_what_is_set_for_all() {
        let config = config(
            "profiles:\n- plugins:\n    multiPoint:\n      disabled: [{name: ImageLocality}]\n      enabled: [{name: NodeAffinity, weight: 5}]\n    \
             score:\n      enabled: [{name: NodeResourcesFit, weight: 7}]\n      disabled: [{name: InterPodAffinity}]\n",
        );
        let scores = config.unwrap().profiles.remove(0).scores;
        let named: Vec<_> = scores.iter().map(|(id, weight)| (id.name(), *weight)).collect();
        let expected = [
            ("NodeResourcesFit", 7),
            ("TaintToleration", 3),
            ("NodeAffinity", 5),
            ("PodTopologySpread", 2),
            ("NodeResourcesBalancedAllocation", 1),
        ];
        assert_eq!(named, expected);
    }

    #[test]
    fn settings_of_plugins_are_read() {
        let config = config(
            "profiles:\n- pluginConfig:\n  - name: NodeResourcesFit\n    args:\n      apiVersion: kubescheduler.config.k8s.io/v1\n      \
             kind: NodeResourcesFitArgs\n      scoringStrategy:\n        type: MostAllocated\n        resources: [{name: cpu, weight: 3}, {name: memory}]\n  \
             - name: InterPodAffinity\n    args: {hardPodAffinityWeight: 5}\n  - name: VolumeBinding\n    args: {bindTimeoutSeconds: 30}\n",
        );
        let profile = config.unwrap().profiles.remove(0);
        let strategy = profile.fit.scoring_strategy;
        assert_eq!(strategy.kind, StrategyType::MostAllocated);
        assert_eq!(strategy.resources.iter().map(|resource| resource.weight).collect::<Vec<_>>(), [3, 1]);
        assert_eq!((profile.hard_pod_affinity_weight, profile.bind_timeout), (5, Duration::from_secs(30)));
    }

    #[test]
    fn extenders_that_may_be_ignored_are_asked_last_and_what_they_manage_is_ignored_in_place_of_what_profiles_say() {
        let config = config(
            "extenders:\n- {urlPrefix: 'http://a', ignorable: true}\n- {urlPrefix: 'http://b', preemptVerb: p, managedResources: \
             [{name: a.b/c, ignoredByScheduler: true}, {name: a.b/d}]}\n- {urlPrefix: 'https://c', enableHTTPS: true}\nprofiles:\n\
             - pluginConfig:\n  - name: NodeResourcesFit\n    args: {ignoredResources: [e.f/g]}\n",
        );
        let config = config.unwrap();
        let order: Vec<_> = config.extenders.iter().map(|extender| &*extender.url).collect();
        assert_eq!(order, ["http://b", "https://c", "http://a"]);
        assert_eq!(config.profiles[0].fit.ignored_resources, ["a.b/c"]);
    }

    #[test]
    fn what_can_not_be_is_refused_with_the_reason() {
        let rows = [
            ("profiles:\n- schedulerName: a\n- schedulerName: a\n", "two with the schedulerName"),
            ("profiles:\n- schedulerName: a\n- {}\n", "each needs a schedulerName"),
            ("percentageOfNodesToScore: 101\n", "0 to 100"),
            ("podInitialBackoffSeconds: 20\n", "at least podInitialBackoffSeconds"),
            ("profiles:\n- plugins:\n    score:\n      enabled: [{name: Nonsense}]\n", "there is no \"Nonsense\""),
            ("profiles:\n- plugins:\n    bind:\n      disabled: [{name: '*'}]\n", "at least one bind plugin is needed"),
            ("profiles:\n- plugin: {}\n", "unknown field"),
            ("extenders: [{urlPrefix: 'http://x', prioritizeVerb: p}]\n", "extenders[0].weight: must have a positive"),
            ("extenders: [{urlPrefix: 'ftp://x'}]\n", "extenders[0].urlPrefix"),
            (
                "extenders: [{urlPrefix: 'https://x', tlsConfig: {insecure: true, caData: eA==}}]\n",
                "with the insecure flag",
            ),
            ("extenders: [{urlPrefix: 'https://x', tlsConfig: {caData: eA==}}]\n", "no PEM certificate"),
            (
                "extenders: [{urlPrefix: 'http://x', managedResources: [{name: cpu}]}]\n",
                "managedResources[0].name: is an invalid",
            ),
            (
                "extenders: [{urlPrefix: 'http://x', managedResources: [{name: a.b/c}, {name: a.b/c}]}]\n",
                "managedResources[1].name: duplicate",
            ),
            ("extenders: [{urlPrefix: 'http://x', httpTimeout: soon}]\n", "extenders[0].httpTimeout"),
            (
                "extenders: [{urlPrefix: 'http://x', bindVerb: b}, {urlPrefix: 'http://y', bindVerb: b}]\n",
                "only one extender",
            ),
        ];
        for (text, expected) in rows {
            let error = config(text).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!(Config::parse("apiVersion: v1\nkind: Pod\n").is_err());
    }
}
