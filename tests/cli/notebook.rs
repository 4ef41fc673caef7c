//! Notebooks: sessions over kernels in containers.

use crate::house::{House, docker};

#[test]
fn a_notebook_keeps_its_state_from_call_to_call() {
    if !docker() {
        return;
    }
    let house = House::open();
    let spawn = ["containers", "spawn", "casemate-test/jupyter:1", "--name", "notes", "--", "sleep", "100000"];
    let container = house.casemate(&spawn).expect(0).stdout.trim_end().to_owned();
    let made = house.casemate(&["sessions", "create", "notebook", "--in", "notes", "--kernel", "python3"]).expect(0);
    let session = made.stdout.trim_end().to_owned();
    let cell = |code: &str| house.casemate(&["run", "notebook", "--session", &session, code]);
    assert_eq!(cell("x = 20; print('set')").expect(0).stdout, "set\n");
    let shown = cell("from IPython.display import HTML; display(HTML('<b>y</b>')); x + 1").expect(0);
    assert_eq!(shown.stderr, "<IPython.core.display.HTML object>\n21\n");
    let failed = cell("{}[x]").expect(1);
    assert!(failed.stderr.contains("KeyError: 20"), "{}", failed.stderr);
    let listed = house.casemate(&["sessions", "list", "--in", &container]).expect(0).json();
    assert_eq!((&listed["sessions"][0]["id"], &listed["sessions"][0]["turn"]), (&session.into(), &3.into()));
    assert_eq!(listed["sessions"][0]["target"]["containerId"], container);
    let schemas = house.casemate(&["tools", "schemas", "--in", "notes"]).expect(0).stdout;
    assert!(schemas.contains("\"notebook\"") && schemas.contains("Kernels here: python3"), "{schemas}");
    house.casemate(&["sessions", "create", "notebook", "--in", "notes", "--pool", "p"]).expect(2);
    let refused =
        house.casemate(&["sessions", "create", "notebook", "--in", "notes", "--kernel", "ir"]).expect(1).stderr;
    assert!(refused.contains("python3"), "{refused}");
}
