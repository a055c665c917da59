//! `imager boards`.

use imager::profile::{BoardSummary, boards};

use super::{
    args::Globals,
    exit::Exit,
    output::{Output, table},
    workspace,
};

pub(super) fn run(globals: &Globals, output: Output) -> anyhow::Result<Exit> {
    let workspace = workspace::find(globals.workspace.as_deref())?;
    let boards = boards(&workspace.join("boards"))?;
    let summaries: Vec<BoardSummary> = boards.iter().map(|board| board.summary()).collect();
    output.print(&summaries, |summaries| text(summaries))?;
    Ok(Exit::Ok)
}

fn text(boards: &[BoardSummary]) -> String {
    let rows: Vec<Vec<String>> = boards
        .iter()
        .map(|board| {
            vec![
                board.name.clone(),
                board.arch.to_string(),
                board.suite.clone(),
                board.kernel.clone(),
                board.title.clone(),
            ]
        })
        .collect();
    let mut out = table(&["NAME", "ARCH", "SUITE", "KERNEL", "BOARD"], &rows);
    for board in boards {
        out.push_str(&format!("\n{}: for {}\n", board.name, board.supports.join(", ")));
        if board.tested.is_empty() {
            out.push_str("  tested: nothing yet\n");
        }
        for line in &board.tested {
            out.push_str(&format!("  tested: {line}\n"));
        }
    }
    out
}
