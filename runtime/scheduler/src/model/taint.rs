//! Taints of nodes, and what pods tolerate.

use k8s_openapi::api::core::v1;

use super::Name;

/// What a taint does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Effect {
    /// No new pods.
    NoSchedule,
    /// No new pods if it can be helped.
    PreferNoSchedule,
    /// No pods at all.
    NoExecute,
}

impl Effect {
    fn of(text: &str) -> Option<Self> {
        match text {
            "NoSchedule" => Some(Self::NoSchedule),
            "PreferNoSchedule" => Some(Self::PreferNoSchedule),
            "NoExecute" => Some(Self::NoExecute),
            _ => None,
        }
    }
}

/// A taint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taint {
    pub(crate) key: Name,
    pub(crate) value: Name,
    pub(crate) effect: Effect,
}

impl Taint {
    /// One whose effect is none is left out.
    pub(super) fn of(taint: &v1::Taint, mut name: impl FnMut(&str) -> Name) -> Option<Self> {
        let effect = Effect::of(&taint.effect)?;
        Some(Self { key: name(&taint.key), value: name(taint.value.as_deref().unwrap_or_default()), effect })
    }
}

/// A toleration.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Toleration {
    key: Name,
    /// `None`: whatever the value is.
    value: Option<Name>,
    /// `None`: every effect.
    pub(crate) effect: Option<Effect>,
    /// An operator that is none: it tolerates nothing.
    broken: bool,
}

impl Toleration {
    pub(super) fn of(toleration: &v1::Toleration, mut name: impl FnMut(&str) -> Name) -> Self {
        let operator = toleration.operator.as_deref().unwrap_or_default();
        let effect = toleration.effect.as_deref().filter(|effect| !effect.is_empty());
        let value = match operator {
            "Exists" => None,
            _ => Some(name(toleration.value.as_deref().unwrap_or_default())),
        };
        Self {
            key: name(toleration.key.as_deref().unwrap_or_default()),
            value,
            effect: effect.and_then(Effect::of),
            broken: !matches!(operator, "" | "Equal" | "Exists")
                || effect.is_some_and(|text| Effect::of(text).is_none()),
        }
    }

    /// Whether it tolerates a taint.
    pub(crate) fn tolerates(&self, taint: &Taint) -> bool {
        !self.broken
            && self.effect.is_none_or(|effect| effect == taint.effect)
            && (self.key.is_empty() || self.key == taint.key)
            && self.value.as_ref().is_none_or(|value| *value == taint.value)
    }
}

/// The first taint that keeps new pods away and that is not tolerated.
pub(crate) fn blocking_taint<'a>(taints: &'a [Taint], tolerations: &[Toleration]) -> Option<&'a Taint> {
    taints.iter().find(|taint| {
        taint.effect != Effect::PreferNoSchedule && !tolerations.iter().any(|toleration| toleration.tolerates(taint))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taints_are_tolerated_as_the_documentation_says() {
        let taint = |key: &str, value: &str, effect: &str| v1::Taint {
            key: key.to_owned(),
            value: Some(value.to_owned()),
            effect: effect.to_owned(),
            time_added: None,
        };
        let toleration = |key: &str, operator: &str, value: &str, effect: &str| v1::Toleration {
            key: Some(key.to_owned()),
            operator: Some(operator.to_owned()),
            value: Some(value.to_owned()),
            effect: Some(effect.to_owned()),
            toleration_seconds: None,
        };
        let rows = [
            (("key1", "value1", "NoSchedule"), ("key1", "Equal", "value1", "NoSchedule"), true),
            (("key1", "value1", "NoSchedule"), ("key1", "Exists", "", "NoSchedule"), true),
            (("key1", "value1", "NoSchedule"), ("key1", "", "value1", ""), true),
            (("key1", "value1", "NoExecute"), ("key1", "Equal", "value1", "NoSchedule"), false),
            (("key1", "value1", "NoSchedule"), ("key1", "Equal", "value2", "NoSchedule"), false),
            (("key2", "value1", "NoSchedule"), ("key1", "Exists", "", ""), false),
            (("key2", "value1", "NoExecute"), ("", "Exists", "", ""), true),
            (("key1", "1", "NoSchedule"), ("key1", "Gt", "0", ""), false),
        ];
        for ((key, value, effect), (tkey, operator, tvalue, teffect), expected) in rows {
            let taint = Taint::of(&taint(key, value, effect), Name::new).unwrap();
            let toleration = Toleration::of(&toleration(tkey, operator, tvalue, teffect), Name::new);
            assert_eq!(toleration.tolerates(&taint), expected, "{taint:?} {toleration:?}");
        }
    }
}
