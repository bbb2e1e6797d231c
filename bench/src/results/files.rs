//! Where outcomes are kept: one JSON file each, with every sample. The page and the plots are made
//! from those files and from nothing else, so they can be made again, also from several runs.

use super::{Outcome, markdown, svg};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::Path;

/// Writes an outcome and the page of all that are there.
pub fn write(folder: &Path, outcome: &Outcome) -> Result<()> {
    fs::create_dir_all(folder)?;
    let json = serde_json::to_vec_pretty(outcome)?;
    fs::write(folder.join(format!("{}.json", outcome.name)), json)?;
    render(folder)
}

/// Makes the page and the plots again.
pub fn render(folder: &Path) -> Result<()> {
    let mut outcomes = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("no {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "json") {
            let outcome: Outcome = serde_json::from_slice(&fs::read(&path)?)
                .with_context(|| format!("{} is not of this benchmark", path.display()))?;
            outcomes.push(outcome);
        }
    }
    outcomes.sort_by(|a, b| a.name.cmp(&b.name));
    let Some(first) = outcomes.first() else {
        bail!("there is no .json in {}: `bench SCENARIO --out DIR` writes them", folder.display());
    };
    let mut page = format!("# Figures\n\n{}", markdown::machine(first));
    for outcome in &outcomes {
        page.push('\n');
        page.push_str(&markdown::render(outcome));
        for measure in outcome.measures.iter().filter(|measure| measure.compared) {
            if let Some(plot) = svg::render(outcome, measure) {
                fs::write(folder.join(svg::file_name(outcome, measure)), plot)?;
            }
        }
    }
    Ok(fs::write(folder.join("README.md"), page)?)
}

#[cfg(test)]
mod tests {
    use crate::results::tests::outcome;
    use std::fs;

    #[test]
    fn what_is_written_is_rendered_again_from_its_samples_alone() {
        let folder = tempfile::tempdir().unwrap();
        super::write(folder.path(), &outcome()).unwrap();
        let page = fs::read_to_string(folder.path().join("README.md")).unwrap();
        fs::remove_file(folder.path().join("README.md")).unwrap();
        fs::remove_file(folder.path().join("x-cost.svg")).unwrap();
        super::render(folder.path()).unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("README.md")).unwrap(), page);
        assert!(folder.path().join("x-cost.svg").exists());
        let empty = tempfile::tempdir().unwrap();
        assert!(super::render(empty.path()).unwrap_err().to_string().contains("--out DIR"));
    }
}
