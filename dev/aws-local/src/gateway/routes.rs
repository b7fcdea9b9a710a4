//! Which function answers a request.

use std::sync::Arc;

use crate::lambda::Function;
use crate::template::Route;

/// All routes of the API.
#[derive(Debug)]
pub(super) struct Routes(Vec<(Route, Arc<Function>)>);

/// The route that a request takes.
#[derive(Debug)]
pub(super) struct Found<'a> {
    pub(super) route: &'a Route,
    pub(super) function: &'a Arc<Function>,
    /// The parameters in the path.
    pub(super) parameters: Vec<(String, String)>,
}

impl Routes {
    pub(super) fn of(functions: &[Arc<Function>]) -> Self {
        Self(
            functions
                .iter()
                .flat_map(|function| {
                    let routes = function.definition().routes.iter();
                    routes.map(|route| (route.clone(), Arc::clone(function)))
                })
                .collect(),
        )
    }

    /// The most specific route for a request: a full match before a greedy one, the longer path before the shorter, a
    /// method before `ANY`.
    pub(super) fn find(&self, method: &str, path: &str) -> Option<Found<'_>> {
        let candidates = self.0.iter().filter(|(route, _)| takes(route, method));
        let matching = candidates.filter_map(|(route, function)| {
            parameters(&route.path, path).map(|parameters| Found {
                route,
                function,
                parameters,
            })
        });
        matching.max_by_key(|found| specificity(found.route))
    }
}

fn takes(route: &Route, method: &str) -> bool {
    route.method == "ANY" || route.method == method
}

fn specificity(route: &Route) -> (bool, usize, usize, bool) {
    let segments = route.path.split('/');
    let fixed = segments
        .clone()
        .filter(|segment| !segment.starts_with('{'))
        .count();
    (
        !route.path.ends_with("+}"),
        segments.count(),
        fixed,
        route.method != "ANY",
    )
}

/// The parameters of a path that matches a route.
fn parameters(route: &str, path: &str) -> Option<Vec<(String, String)>> {
    let mut found = Vec::new();
    let mut rest = path.strip_prefix('/')?;
    let mut segments = route.strip_prefix('/')?.split('/').peekable();
    while let Some(segment) = segments.next() {
        let name = segment.strip_prefix('{').and_then(|name| name.strip_suffix('}'));
        if let Some(greedy) = name.and_then(|name| name.strip_suffix('+')) {
            found.push((greedy.to_owned(), rest.to_owned()));
            return (!rest.is_empty()).then_some(found);
        }
        let (own, others) = match rest.split_once('/') {
            Some((own, others)) => (own, Some(others)),
            None => (rest, None),
        };
        match name {
            Some(name) if !own.is_empty() => found.push((name.to_owned(), own.to_owned())),
            None if own == segment => {}
            _ => return None,
        }
        match (others, segments.peek()) {
            (Some(others), Some(_)) => rest = others,
            (None, None) => return Some(found),
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_match_segment_by_segment_and_greedy_ones_to_the_end() {
        let one = |name: &str, value: &str| Some(vec![(name.to_owned(), value.to_owned())]);
        assert_eq!(parameters("/a/b", "/a/b"), Some(Vec::new()));
        assert_eq!(parameters("/a/b", "/a/b/c"), None);
        assert_eq!(parameters("/a/b", "/a"), None);
        assert_eq!(parameters("/a/{id}", "/a/7"), one("id", "7"));
        assert_eq!(parameters("/a/{id}", "/a/"), None);
        assert_eq!(parameters("/a/{proxy+}", "/a/7/events"), one("proxy", "7/events"));
        assert_eq!(parameters("/a/{proxy+}", "/a"), None);
        assert_eq!(parameters("/a/{proxy+}", "/b/7"), None);
    }

    #[test]
    fn the_more_specific_route_comes_first() {
        let route = |method: &str, path: &str| Route {
            method: method.to_owned(),
            path: path.to_owned(),
            authorized: true,
        };
        let ordered = [
            route("ANY", "/a/{proxy+}"),
            route("ANY", "/a/b/{proxy+}"),
            route("ANY", "/a/{id}"),
            route("ANY", "/a/b"),
            route("GET", "/a/b"),
        ];
        assert!(ordered.is_sorted_by_key(specificity));
    }
}
