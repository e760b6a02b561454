//! The tutorial of `docs/handler.md`: the code that it shows is that of the two files here, which are compiled and run.

mod handler;
mod test;

/// The blocks of Rust on the page.
fn blocks() -> Vec<&'static str> {
    let page = include_str!("../../docs/handler.md");
    page.split("```rust\n").skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

#[test]
fn the_page_shows_the_handler_and_the_test_that_are_tried_here() {
    let handler = include_str!("tutorial/handler.rs").replace("use restante::", "use crate::");
    let test = include_str!("tutorial/test.rs")
        .replace("use super::handler::Letters;", "use restante::handlers::letters::Letters;");
    assert_eq!(blocks(), [handler, test]);
}

#[test]
fn the_lines_that_the_page_adds_stand_beside_lines_that_are_there() {
    let page = include_str!("../../docs/handler.md");
    for (added, beside, file) in [
        ("pub mod letters;", "pub mod batch_submit;", include_str!("../../src/handlers/mod.rs")),
        (
            "        .register(letters::Letters)",
            "        .register(batch_delete::BatchDelete)",
            include_str!("../../src/handlers/mod.rs"),
        ),
        ("mod letters;", "mod leases;", include_str!("main.rs")),
    ] {
        assert!(page.contains(&format!("{beside}\n{added}\n")), "{added}");
        assert!(file.contains(&format!("\n{beside}\n")), "{beside}");
        // Whoever has done the tutorial in this tree has the line where the page says.
        assert!(
            !file.contains(&format!("\n{added}\n")) || file.contains(&format!("\n{beside}\n{added}\n")),
            "{added}"
        );
    }
}
