//! `imager inspect`.

use imager::inspect::{
    Card, ImageReport,
    report::{SettingsReport, report},
};
use jiff::Timestamp;

use super::{
    args::ImageArgs,
    exit::Exit,
    output::{Output, size, table},
};

pub(super) fn run(args: &ImageArgs, output: Output) -> anyhow::Result<Exit> {
    let report = report(&Card::open(&args.image)?)?;
    output.print(&report, text)?;
    Ok(Exit::Ok)
}

fn text(report: &ImageReport) -> String {
    let mut out = format!("{}  {}\n", report.image.display(), size(report.size));
    match &report.about {
        Some(about) => {
            let built = Timestamp::from_second(about.build_time).map(|time| time.to_string()).unwrap_or_default();
            out.push_str(&format!(
                "board    {} ({})\nkiln     {}, built from {built}\nkernel   {}\nsuite    {}\nruntime  {}\n",
                about.board,
                about.arch,
                about.version,
                about.kernel,
                about.suite,
                about.container_runtime.as_deref().unwrap_or("none"),
            ));
        }
        None => out.push_str("board    unknown: the image does not say\n"),
    }
    out.push_str(&format!("disk     {} {}\n\n", format!("{:?}", report.table).to_lowercase(), report.disk_id));
    let rows: Vec<Vec<String>> = report
        .partitions
        .iter()
        .map(|partition| {
            let used = partition.used.map_or("-".to_owned(), size);
            vec![
                partition.number.to_string(),
                partition.name.to_owned(),
                partition.start.to_string(),
                size(partition.size),
                used,
            ]
        })
        .collect();
    out.push_str(&table(&["#", "PARTITION", "START", "SIZE", "USED"], &rows));
    for slot in &report.slots {
        let active = if slot.active { ", active" } else { "" };
        if slot.files.is_empty() {
            out.push_str(&format!("\nslot {}{active}: empty\n", slot.name));
            continue;
        }
        out.push_str(&format!(
            "\nslot {}{active}: root hash {}\n",
            slot.name,
            slot.root_hash.as_deref().unwrap_or("unknown")
        ));
        for file in &slot.files {
            out.push_str(&format!("  {:>10}  {}\n", size(file.size), file.path));
        }
    }
    out.push('\n');
    match &report.settings {
        SettingsReport::Absent => out.push_str("settings: none\n"),
        SettingsReport::Invalid { error } => out.push_str(&format!("settings: wrong: {error}\n")),
        SettingsReport::Valid { config } => {
            out.push_str("settings:\n");
            // A checked configuration is plain data, which TOML holds.
            let mut table = toml::Table::try_from(config).unwrap_or_default();
            leave_out_empty(&mut table);
            for line in toml::to_string(&table).unwrap_or_default().lines() {
                out.push_str(&format!("  {line}\n"));
            }
        }
    }
    out
}

/// Takes away tables and lists that say nothing.
fn leave_out_empty(table: &mut toml::Table) {
    table.retain(|_, value| match value {
        toml::Value::Table(inner) => {
            leave_out_empty(inner);
            !inner.is_empty()
        }
        toml::Value::Array(list) => !list.is_empty(),
        _ => true,
    });
}
