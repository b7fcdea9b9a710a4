//! A chart without its templates: what Helm needs to say which subcharts it keeps, and nothing that could fail.

use std::io::{self, Read as _};

use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
use tar::{Archive, Builder, EntryType, Header};

use super::{
    ArchiveError,
    check::{is_crd, is_packed_subchart, within_its_chart},
    entry,
};

/// What says which subcharts a chart has and when they are kept, in the chart's own folder.
const DESCRIPTIONS: &[&str] = &["Chart.yaml", "requirements.yaml", "values.yaml"];

/// Descriptions, default values and definitions of a checked archive, its subcharts' included.
pub(crate) fn without_templates(archive: &[u8]) -> Result<Vec<u8>, ArchiveError> {
    let packed = |error: io::Error| ArchiveError::Unreadable(error);
    let mut archive = Archive::new(MultiGzDecoder::new(archive));
    let mut builder = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for entry in archive.entries().map_err(packed)? {
        let mut entry = entry.map_err(packed)?;
        let (path, is_file) = entry::checked_path(&mut entry)?;
        let inner = path.split_once('/').map_or("", |(_, inner)| inner);
        // Whatever stands below `templates/` is a template, a file of any of these names, too.
        let own = within_its_chart(inner);
        let is_subchart = own.starts_with("charts/") && is_packed_subchart(own);
        if !is_file || !(is_subchart || is_crd(own) || DESCRIPTIONS.contains(&own)) {
            continue;
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(packed)?;
        if is_subchart {
            bytes = without_templates(&bytes)?;
        }
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        builder
            .append_data(&mut header, path, bytes.as_slice())
            .map_err(packed)?;
    }
    builder.into_inner().and_then(GzEncoder::finish).map_err(packed)
}
