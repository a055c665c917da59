//! From wanted names to a closed set of packages.
//!
//! Packages are chosen greedily: the first alternative that can be had, in its newest version. When a later dependency
//! wants another version of something already chosen, that demand is remembered and everything is chosen again with it,
//! so that the outcome depends on the indices and the set of wishes only.

mod explain;
mod wish;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt::{self, Display},
};

use super::{
    Error, Pin, Result, Skipped,
    dependency::{self, Clause, Operator, Relation},
    index::{Index, Package},
    version,
};

use wish::Wish;

/// Something that cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unsatisfied {
    /// The package that needs it with its version, or `the package list`.
    pub requirer: String,
    /// What it needs, as written.
    pub relation: String,
    /// Why that cannot be had.
    pub reason: String,
}

impl Display for Unsatisfied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} needs {}: {}", self.requirer, self.relation, self.reason)
    }
}

/// Resolves the names; see [`super::resolve`].
pub(super) fn resolve(
    indices: &[Index],
    wanted: &[String],
    exclude: &[String],
    skipped: &[Skipped],
) -> Result<Vec<Pin>> {
    let wanted = wanted.iter().map(|item| Wish::parse(item)).collect::<BTreeSet<_>>();
    let exclude: BTreeSet<&str> = exclude.iter().map(String::as_str).collect();
    let mut demands = Demands::default();
    loop {
        let mut attempt = Attempt::new(indices, &exclude, &demands);
        attempt.run(&wanted);
        let Attempt { chosen, mut problems, new_demand, .. } = attempt;
        // Each round adds a demand that was not there, and there are finitely many, so this ends.
        if let Some((relation, requirer)) = new_demand {
            demands.entry(relation.name.clone()).or_default().insert(relation, requirer);
            continue;
        }
        problems.sort();
        problems.dedup();
        if !problems.is_empty() {
            return Err(Error::Unsatisfied { problems, skipped: skipped.to_vec() });
        }
        return Ok(chosen.into_values().map(Package::pin).collect());
    }
}

/// Demands on versions that only came up after a package had been chosen: by package name, each with who made it.
type Demands = BTreeMap<String, BTreeMap<Relation, String>>;

/// One pass over everything.
struct Attempt<'a> {
    indices: &'a [Index],
    exclude: &'a BTreeSet<&'a str>,
    demands: &'a Demands,
    chosen: BTreeMap<&'a str, Package<'a>>,
    /// Names that chosen packages provide: the provider, and the version if one is given.
    provided: BTreeMap<String, Vec<(&'a str, Option<String>)>>,
    /// Dependencies that only one package can meet.
    plain: VecDeque<(Package<'a>, Clause)>,
    /// Dependencies with a choice; looked at last, when most of them are met already.
    choices: VecDeque<(Package<'a>, Clause)>,
    problems: Vec<Unsatisfied>,
    new_demand: Option<(Relation, String)>,
}

impl<'a> Attempt<'a> {
    fn new(indices: &'a [Index], exclude: &'a BTreeSet<&'a str>, demands: &'a Demands) -> Self {
        Self {
            indices,
            exclude,
            demands,
            chosen: BTreeMap::new(),
            provided: BTreeMap::new(),
            plain: VecDeque::new(),
            choices: VecDeque::new(),
            problems: Vec::new(),
            new_demand: None,
        }
    }

    fn run(&mut self, wanted: &BTreeSet<Wish>) {
        let (pinned, free): (Vec<_>, Vec<_>) = wanted.iter().partition(|w| w.version.is_some() || w.suite.is_some());
        for wish in pinned.into_iter().chain(free) {
            self.grant(wish);
        }
        while self.new_demand.is_none() {
            let Some((requirer, clause)) = self.plain.pop_front().or_else(|| self.choices.pop_front()) else {
                return self.check_conflicts();
            };
            self.satisfy(requirer, &clause);
        }
    }

    /// Chooses what an item of the wanted list asks for.
    fn grant(&mut self, wish: &Wish) {
        let fits = |package: &Package<'_>| match (&wish.version, &wish.suite) {
            (Some(version), _) => version::compare(package.version(), version).is_eq(),
            (None, Some(suite)) => package.index.suite == *suite,
            (None, None) => true,
        };
        if self.exclude.contains(wish.name.as_str()) {
            return self.wish_fails(wish, "it is excluded too".into());
        }
        if let Some(chosen) = self.chosen.get(wish.name.as_str()) {
            if !fits(chosen) {
                self.wish_fails(wish, format!("{} is asked for too", chosen.version()));
            }
            return;
        }
        let explicit = wish.version.is_some() || wish.suite.is_some();
        let allowed = |index: &Index| explicit || !index.not_automatic;
        if let Some(package) = self.candidates(&wish.name, allowed).into_iter().find(fits) {
            return self.choose(package);
        }
        let relation = Relation { name: wish.name.clone(), version: None };
        match self.provider(&relation, allowed) {
            Some(provider) if !explicit => self.choose(provider),
            _ => self.wish_fails(wish, self.why_not(&relation)),
        }
    }

    fn wish_fails(&mut self, wish: &Wish, reason: String) {
        self.problems.push(Unsatisfied { requirer: "the package list".into(), relation: wish.to_string(), reason });
    }

    /// Chooses something that meets a dependency, unless something does already.
    fn satisfy(&mut self, requirer: Package<'a>, clause: &Clause) {
        let relations = &clause.0;
        if relations.iter().any(|r| self.exclude.contains(r.name.as_str())) || relations.iter().any(|r| self.is_met(r))
        {
            return;
        }
        let allowed = |index: &Index| !index.not_automatic || index.suite == requirer.index.suite;
        for relation in relations {
            if !self.chosen.contains_key(relation.name.as_str()) {
                let found =
                    self.candidates(&relation.name, allowed).into_iter().find(|p| relation.accepts(p.version()));
                if let Some(package) = found {
                    return self.choose(package);
                }
            }
            if let Some(package) = self.provider(relation, allowed) {
                return self.choose(package);
            }
        }
        let label = label(requirer);
        for relation in relations.iter().filter(|r| self.chosen.contains_key(r.name.as_str())) {
            let possible = self.candidates(&relation.name, allowed).iter().any(|p| relation.accepts(p.version()));
            let demanded = self.demands.get(&relation.name).is_some_and(|known| known.contains_key(relation));
            if possible && !demanded {
                self.new_demand = Some((relation.clone(), label));
                return;
            }
        }
        let reason = relations.iter().map(|r| self.why_not(r)).collect::<Vec<_>>().join("; ");
        self.problems.push(Unsatisfied { requirer: label, relation: clause.to_string(), reason });
    }

    fn is_met(&self, relation: &Relation) -> bool {
        let name = relation.name.as_str();
        self.chosen.get(name).is_some_and(|package| relation.accepts(package.version()))
            || self.provided.get(name).is_some_and(|providers| {
                providers.iter().any(|(_, version)| relation.accepts_provided(version.as_deref()))
            })
    }

    /// The packages of that name which meet all demands, best first: those of automatic suites, then by version, then
    /// in the order of the indices.
    fn candidates(&self, name: &str, allowed: impl Fn(&Index) -> bool) -> Vec<Package<'a>> {
        let demands = self.demands.get(name);
        let mut found: Vec<_> = self
            .indices
            .iter()
            .filter(|index| allowed(index))
            .flat_map(|index| index.named(name))
            .filter(|p| demands.is_none_or(|demands| demands.keys().all(|demand| demand.accepts(p.version()))))
            .collect();
        found.sort_by(|a, b| {
            (a.index.not_automatic.cmp(&b.index.not_automatic)).then_with(|| version::compare(b.version(), a.version()))
        });
        found
    }

    /// The best package that provides what a relation asks for: by priority, then name, then as [`Self::candidates`].
    fn provider(&self, relation: &Relation, allowed: impl Fn(&Index) -> bool + Copy) -> Option<Package<'a>> {
        let names: BTreeSet<(usize, &str)> = self
            .indices
            .iter()
            .filter(|index| allowed(index))
            .flat_map(|index| index.mentioning(&relation.name))
            .filter(|package| !self.chosen.contains_key(package.name()) && !self.exclude.contains(package.name()))
            .map(|package| (package.priority(), package.name()))
            .collect();
        names.into_iter().find_map(|(_, name)| {
            let mut candidates = self.candidates(name, allowed).into_iter();
            candidates.find(|package| {
                provisions(*package)
                    .iter()
                    .any(|(name, version)| *name == relation.name && relation.accepts_provided(version.as_deref()))
            })
        })
    }

    /// Takes a package and queues what it depends on.
    fn choose(&mut self, package: Package<'a>) {
        self.chosen.insert(package.name(), package);
        for (name, version) in provisions(package) {
            self.provided.entry(name).or_default().push((package.name(), version));
        }
        for field in package.depends() {
            match dependency::parse(field, &package.index.arch) {
                Ok(clauses) => clauses.into_iter().for_each(|clause| self.enqueue(package, clause)),
                Err(reason) => {
                    self.problems.push(Unsatisfied { requirer: label(package), relation: field.into(), reason });
                }
            }
        }
    }

    fn enqueue(&mut self, requirer: Package<'a>, clause: Clause) {
        let named = |name: &str| self.indices.iter().any(|index| index.named(name).next().is_some());
        match clause.0.as_slice() {
            [only] if named(&only.name) => self.plain.push_back((requirer, clause)),
            _ => self.choices.push_back((requirer, clause)),
        }
    }
}

fn label(package: Package<'_>) -> String {
    format!("{} {}", package.name(), package.version())
}

/// What a package provides; an unreadable field provides nothing.
fn provisions(package: Package<'_>) -> Vec<(String, Option<String>)> {
    dependency::parse(package.provides(), &package.index.arch)
        .unwrap_or_default()
        .into_iter()
        .flat_map(|clause| clause.0)
        .map(|relation| match relation.version {
            Some((Operator::Exactly, version)) => (relation.name, Some(version)),
            _ => (relation.name, None),
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step fails the test")]
mod tests;
