//! Keeping a plan small enough to be answered.

use super::ComponentPlan;

/// Most bytes of all diffs, and of all manifests.
const DIFFS: usize = 2 << 20;
const MANIFESTS: usize = 2 << 20;

/// What stands for a diff or manifest that is left out.
const LEFT_OUT: &str = "… left out: the plan would be larger than can be answered\n";

/// Leaves out diffs and manifests beyond what a plan may hold, the last ones first. What changes is still said.
pub(super) fn fit(components: &mut [ComponentPlan]) {
    let (mut diffs, mut manifests) = (DIFFS, MANIFESTS);
    for component in components {
        for object in &mut component.objects {
            shorten(&mut object.diff, &mut diffs);
        }
        shorten(&mut component.manifest, &mut manifests);
    }
}

fn shorten(text: &mut Option<String>, left: &mut usize) {
    let Some(text) = text else {
        return;
    };
    match left.checked_sub(text.len()) {
        Some(rest) => *left = rest,
        None => LEFT_OUT.clone_into(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_left_out_and_says_so() {
        let mut left = 10;
        let mut texts = ["12345678", "123", "12"].map(|text| Some(text.to_owned()));
        for text in &mut texts {
            shorten(text, &mut left);
        }
        let texts: Vec<String> = texts.into_iter().flatten().collect();
        assert_eq!(texts, ["12345678", LEFT_OUT, "12"]);
    }
}
