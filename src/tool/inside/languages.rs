//! The languages of the tool `code`: what runs them, and how.

/// A language.
#[derive(Debug)]
pub struct Language {
    /// Its name.
    pub name: &'static str,
    /// Other names it goes by.
    pub aliases: &'static [&'static str],
    /// Name of the file with the code.
    pub file: &'static str,
    /// What can run it, the best first.
    pub toolchains: &'static [Toolchain],
}

/// One way to run a language: the programs it takes, and their arguments.
///
/// In arguments `{code}` stands for the file with the code, `{out}` for what a compiler writes, `{work}` for the
/// directory that holds both and `{class}` for the main class.
#[derive(Debug)]
pub struct Toolchain {
    /// The program that must be there.
    pub program: &'static str,
    /// What compiles, with its arguments; empty where nothing is compiled.
    pub compile: &'static [&'static str],
    /// What runs, with its arguments; those of the call come behind.
    pub run: &'static [&'static str],
}

const fn interpreted(program: &'static str, run: &'static [&'static str]) -> Toolchain {
    Toolchain { program, compile: &[], run }
}

const fn compiled(program: &'static str, compile: &'static [&'static str]) -> Toolchain {
    Toolchain { program, compile, run: &["{out}"] }
}

/// All languages, by name.
pub const LANGUAGES: &[Language] = &[
    Language { name: "bash", aliases: &[], file: "code.sh", toolchains: &[interpreted("bash", &["bash", "{code}"])] },
    Language {
        name: "c",
        aliases: &[],
        file: "code.c",
        toolchains: &[
            compiled("gcc", &["gcc", "-O1", "-o", "{out}", "{code}", "-lm"]),
            compiled("clang", &["clang", "-O1", "-o", "{out}", "{code}", "-lm"]),
            compiled("cc", &["cc", "-o", "{out}", "{code}", "-lm"]),
            compiled("tcc", &["tcc", "-o", "{out}", "{code}", "-lm"]),
        ],
    },
    Language {
        name: "cpp",
        aliases: &["c++", "cxx"],
        file: "code.cpp",
        toolchains: &[
            compiled("g++", &["g++", "-O1", "-o", "{out}", "{code}"]),
            compiled("clang++", &["clang++", "-O1", "-o", "{out}", "{code}"]),
            compiled("c++", &["c++", "-o", "{out}", "{code}"]),
        ],
    },
    Language {
        name: "go",
        aliases: &["golang"],
        file: "main.go",
        toolchains: &[compiled("go", &["go", "build", "-o", "{out}", "{code}"])],
    },
    Language {
        name: "java",
        aliases: &[],
        file: "{class}.java",
        toolchains: &[Toolchain {
            program: "javac",
            compile: &["javac", "-encoding", "UTF-8", "-d", "{work}", "{code}"],
            run: &["java", "-cp", "{work}", "{class}"],
        }],
    },
    Language {
        name: "javascript",
        aliases: &["js", "node"],
        file: "code.js",
        toolchains: &[
            interpreted("node", &["node", "{code}"]),
            interpreted("nodejs", &["nodejs", "{code}"]),
            interpreted("deno", &["deno", "run", "--allow-all", "{code}"]),
            interpreted("bun", &["bun", "run", "{code}"]),
            interpreted("qjs", &["qjs", "{code}"]),
        ],
    },
    Language {
        name: "lua",
        aliases: &[],
        file: "code.lua",
        toolchains: &[
            interpreted("lua", &["lua", "{code}"]),
            interpreted("lua5.4", &["lua5.4", "{code}"]),
            interpreted("lua5.3", &["lua5.3", "{code}"]),
            interpreted("luajit", &["luajit", "{code}"]),
        ],
    },
    Language {
        name: "perl",
        aliases: &["pl"],
        file: "code.pl",
        toolchains: &[interpreted("perl", &["perl", "{code}"])],
    },
    Language { name: "php", aliases: &[], file: "code.php", toolchains: &[interpreted("php", &["php", "{code}"])] },
    Language {
        name: "python",
        aliases: &["py", "python3"],
        file: "code.py",
        toolchains: &[interpreted("python3", &["python3", "{code}"]), interpreted("python", &["python", "{code}"])],
    },
    Language {
        name: "r",
        aliases: &["rscript"],
        file: "code.R",
        toolchains: &[interpreted("Rscript", &["Rscript", "--vanilla", "{code}"])],
    },
    Language {
        name: "ruby",
        aliases: &["rb"],
        file: "code.rb",
        toolchains: &[interpreted("ruby", &["ruby", "{code}"])],
    },
    Language {
        name: "rust",
        aliases: &["rs"],
        file: "code.rs",
        toolchains: &[compiled("rustc", &["rustc", "--edition", "2021", "-C", "debuginfo=0", "-o", "{out}", "{code}"])],
    },
    Language {
        name: "sh",
        aliases: &["shell", "posix"],
        file: "code.sh",
        toolchains: &[interpreted("sh", &["sh", "{code}"])],
    },
    Language {
        name: "typescript",
        aliases: &["ts"],
        file: "code.ts",
        toolchains: &[
            interpreted("deno", &["deno", "run", "--allow-all", "{code}"]),
            interpreted("bun", &["bun", "run", "{code}"]),
            interpreted("tsx", &["tsx", "{code}"]),
            interpreted("ts-node", &["ts-node", "{code}"]),
            Toolchain {
                program: "tsc",
                compile: &["tsc", "--target", "es2022", "--module", "commonjs", "--outDir", "{work}", "{code}"],
                run: &["node", "{work}/code.js"],
            },
        ],
    },
];

/// The language of that name, or one that goes by it.
pub fn language(name: &str) -> Option<&'static Language> {
    let name = name.to_ascii_lowercase();
    LANGUAGES.iter().find(|language| language.name == name || language.aliases.contains(&&*name))
}

/// The class that `java` starts: the public one, else the one around the first `main`, else the last.
pub fn main_class(code: &str) -> &str {
    let (mut latest, mut with_main) = (None, None);
    for line in code.lines() {
        if let Some((class, public)) = declared(line) {
            if public {
                return class;
            }
            latest = Some(class);
        }
        if line.contains("void main(") {
            with_main = with_main.or(latest);
        }
    }
    with_main.or(latest).unwrap_or("Main")
}

/// The class that a line declares at its beginning, and whether it is public.
fn declared(line: &str) -> Option<(&str, bool)> {
    let (mut public, mut words) = (false, line.split_whitespace());
    while let Some(word) = words.next() {
        match word {
            "public" => public = true,
            "abstract" | "final" | "static" | "sealed" | "strictfp" => {}
            "class" | "record" | "enum" | "interface" => {
                let name = words.next()?;
                let end = name.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '$'))).unwrap_or(name.len());
                return (end > 0).then(|| (&name[..end], public));
            }
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_are_found_by_all_their_names() {
        for (name, found) in [("python", "python"), ("Py", "python"), ("C++", "cpp"), ("ts", "typescript"), ("r", "r")]
        {
            assert_eq!(language(name).map(|language| language.name), Some(found), "{name}");
        }
        assert!(language("cobol").is_none());
        let names: Vec<&str> = LANGUAGES.iter().map(|language| language.name).collect();
        assert!(names.is_sorted(), "{names:?}");
        for language in LANGUAGES {
            assert!(!language.toolchains.is_empty());
            for toolchain in language.toolchains {
                let first = if toolchain.compile.is_empty() { toolchain.run } else { toolchain.compile };
                assert_eq!(first.first(), Some(&toolchain.program), "{}", language.name);
            }
        }
    }

    #[test]
    fn the_main_class_is_the_one_that_java_can_start() {
        for (code, class) in [
            ("public class Hello {\n public static void main(String[] a) {} }", "Hello"),
            ("class A {}\nclass B {\n  public static void main(String[] a) {}\n}\nclass C{}", "B"),
            ("import java.util.*;\nrecord P(int x) {}\npublic final class Q<T> {}", "Q"),
            ("// no class\n", "Main"),
            ("class", "Main"),
            ("  String s = \"class X\";\nclass Y{ static void main(String[] a){} }", "Y"),
        ] {
            assert_eq!(main_class(code), class, "{code}");
        }
    }
}
