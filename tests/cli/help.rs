//! Help and shell completions.

use predicates::prelude::*;

use crate::fixture::slth;

#[test]
fn help_lists_the_values_of_a_flag() {
    for (command, values) in
        [("candidates", ["- every:", "- one:"]), ("approximate", ["- per-row:", "- per-weight:"])]
    {
        let listed = predicate::str::contains(values[0]).and(predicate::str::contains(values[1]));
        slth().args([command, "--help"]).assert().success().stdout(listed);
    }
}

#[test]
fn completions_know_commands_and_values() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let known = predicate::str::contains("candidates").and(predicate::str::contains("per-weight"));
        let assert = slth().args(["completions", shell]).assert().success().stderr("");
        // Elvish and PowerShell complete no values.
        if !["elvish", "powershell"].contains(&shell) {
            assert.stdout(known);
        }
    }
    slth()
        .args(["completions", "tcsh"])
        .assert()
        .code(2)
        .stderr(predicate::str::contains("bash, elvish, fish"));
}
