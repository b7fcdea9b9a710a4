//! «Did you mean».

/// `did you mean 'x'?`, or what there is, for a name that is not among `known`.
pub(crate) fn suggest<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    let known: Vec<&str> = known.into_iter().filter(|name| !name.is_empty()).collect();
    let comparable = |candidate: &&&str| candidate.len().abs_diff(name.len()) <= LONGEST_COMPARED / 3;
    let nearest = known
        .iter()
        .filter(|_| name.len() <= LONGEST_COMPARED)
        .filter(comparable)
        .take(MOST_COMPARED)
        .map(|candidate| (strsim::osa_distance(name, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().max(name.len()) / 3)
        .min();
    if let Some((_, candidate)) = nearest {
        return format!("did you mean '{candidate}'?");
    }
    match known.as_slice() {
        [] => "there are none".to_owned(),
        [only] => format!("there is only {only}"),
        few if few.len() <= MOST_LISTED => format!("there are {}", few.join(", ")),
        many => format!(
            "there are {} and {} more",
            many[..MOST_LISTED].join(", "),
            many.len() - MOST_LISTED
        ),
    }
}

/// A name for an error: cut, if it is long.
pub(crate) fn shown(name: &str) -> String {
    if name.chars().count() > LONGEST_COMPARED {
        name.chars().take(LONGEST_COMPARED).chain(['…']).collect()
    } else {
        name.to_owned()
    }
}

/// Comparing takes time with the product of the lengths.
const LONGEST_COMPARED: usize = 64;
/// Comparing takes time with the number of names.
const MOST_COMPARED: usize = 200;
/// More names than that help nobody.
const MOST_LISTED: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested_and_far_ones_are_listed() {
        assert_eq!(suggest("qdrnat", ["milvus", "qdrant"]), "did you mean 'qdrant'?");
        assert_eq!(
            suggest("pinecone", ["milvus", "qdrant"]),
            "there are milvus, qdrant"
        );
        assert_eq!(suggest("x", []), "there are none");
        let many: Vec<String> = (0..25).map(|index| format!("step{index}")).collect();
        assert!(suggest("zzzzzzzz", many.iter().map(String::as_str)).ends_with("step19 and 5 more"));
    }
}
