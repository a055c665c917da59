//! What does not go together, and why something cannot be had.

use super::{
    super::{
        dependency::{self, Relation},
        index::Package,
    },
    Attempt, Unsatisfied, label,
};

impl<'a> Attempt<'a> {
    /// Reports chosen packages that refuse to be together.
    pub(super) fn check_conflicts(&mut self) {
        let mut found = Vec::new();
        for package in self.chosen.values() {
            for field in package.conflicts() {
                let Ok(clauses) = dependency::parse(field, &package.index.arch) else {
                    continue;
                };
                for relation in clauses.iter().flat_map(|clause| &clause.0) {
                    if let Some(other) = self.conflicting(package.name(), relation) {
                        found.push(Unsatisfied {
                            requirer: label(*package),
                            relation: format!("the absence of {relation}"),
                            reason: format!("{} is chosen too; exclude one of them", label(other)),
                        });
                    }
                }
            }
        }
        self.problems.extend(found);
    }

    /// A chosen package other than `own` that is, or provides, what a conflict names.
    fn conflicting(&self, own: &str, relation: &Relation) -> Option<Package<'a>> {
        let named =
            self.chosen.get(relation.name.as_str()).filter(|p| p.name() != own && relation.accepts(p.version()));
        named.copied().or_else(|| {
            let providers = self.provided.get(&relation.name)?;
            let (name, _) = providers
                .iter()
                .find(|(name, version)| *name != own && relation.accepts_provided(version.as_deref()))?;
            self.chosen.get(name).copied()
        })
    }

    /// Why a relation cannot be met, in words that tell what to change.
    pub(super) fn why_not(&self, relation: &Relation) -> String {
        let name = &relation.name;
        let all: Vec<_> = self.indices.iter().flat_map(|index| index.named(name)).collect();
        if all.is_empty() {
            return format!("no source has {name}");
        }
        let mut reason: Vec<String> = Vec::new();
        if all.iter().all(|package| package.index.not_automatic) {
            reason.push(format!("{name} must be asked for by suite: {name}/{}", all[0].index.suite));
        }
        let offers = all.iter().map(|p| format!("{} in {}", p.version(), p.index.suite)).collect::<Vec<_>>().join(", ");
        reason.push(format!("{name} is offered as {offers}"));
        if let Some(chosen) = self.chosen.get(name.as_str()) {
            reason.push(format!("{} is chosen", chosen.version()));
        }
        for (demand, requirer) in self.demands.get(name).into_iter().flatten() {
            reason.push(format!("{requirer} needs {demand}"));
        }
        reason.join(", ")
    }
}
