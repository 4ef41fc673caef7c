//! x
#[tokio::test]
async fn smoke() {
    let Some(python) = crate::kit::start().await else { return };
    assert_eq!(python.run("print(40+2)").await.fine(), "42\n");
}
