//! Kafka's brokers, topics and options as one address: `kafka://BROKER,BROKER/TOPIC?option=value`.

use std::fmt;
use std::fs;

use outspan::Secret;

/// The topic of the Collector's Kafka exporter and receiver.
const TOPIC: &str = "otlp_spans";

/// Holds where in Kafka spans are, and how to get at them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KafkaUrl {
    /// `host:port`, with commas between several.
    pub(crate) brokers: String,
    /// At least one.
    pub(crate) topics: Vec<String>,
    /// What stands behind the question mark.
    options: Vec<(String, String)>,
}

/// A property of Kafka's library, from the file that `config` names.
pub(crate) struct Property {
    pub(crate) name: String,
    pub(crate) value: Secret,
}

impl KafkaUrl {
    /// Reads what follows `kafka:`. Only these options may be there, each once.
    ///
    /// # Errors
    ///
    /// Words for the user. They show no value, because a password may have been written there.
    pub(crate) fn parse(rest: &str, known: &[&str]) -> Result<Self, String> {
        let rest = rest.strip_prefix("//").ok_or(
            "the address starts with two slashes, as in kafka://localhost:9092/otlp_spans",
        )?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (brokers, path) = rest.split_once('/').unwrap_or((rest, ""));
        if brokers.contains('@') {
            return Err(
                "brokers are written without a user: put sasl.username and sasl.password into a file, and name it with ?config=FILE"
                    .into(),
            );
        }
        if brokers.is_empty() {
            return Err(
                "the address has no broker, as in kafka://localhost:9092/otlp_spans".into(),
            );
        }
        let path = path.strip_suffix('/').unwrap_or(path);
        let topics = match path {
            "" => vec![TOPIC.to_owned()],
            path => path.split(',').map(str::to_owned).collect(),
        };
        let mut options: Vec<(String, String)> = Vec::new();
        for option in query.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            if !known.contains(&name) {
                let known = known.join(", ");
                return Err(format!("unknown option \"{name}\": use {known}"));
            }
            if options.iter().any(|(given, _)| given == name) {
                return Err(format!(
                    "option {name} is given twice: leave one of them out"
                ));
            }
            options.push((name.to_owned(), value.to_owned()));
        }
        Ok(Self {
            brokers: brokers.to_owned(),
            topics,
            options,
        })
    }

    /// The value of an option.
    pub(crate) fn option(&self, name: &str) -> Option<&str> {
        let mut options = self.options.iter();
        let option = options.find(|(given, _)| given == name);
        option.map(|(_, value)| value.as_str())
    }

    /// Finds the value of an option among those it may have; the first one unless it is given.
    ///
    /// # Errors
    ///
    /// Words for the user.
    pub(crate) fn choice<T: Copy>(&self, name: &str, choices: &[(&str, T)]) -> Result<T, String> {
        let given = self.option(name);
        let chosen = match given {
            Some(given) => choices.iter().find(|(choice, _)| *choice == given),
            None => choices.first(),
        };
        chosen.map(|(_, choice)| *choice).ok_or_else(|| {
            let names: Vec<&str> = choices.iter().map(|(choice, _)| *choice).collect();
            let given = given.unwrap_or_default();
            format!("unknown {name} \"{given}\": use {}", names.join(", "))
        })
    }

    /// Reads the file that `config` names: a line `name=value` for each property, and comments that start with `#`.
    ///
    /// # Errors
    ///
    /// Words for the user: which file, which line.
    pub(crate) fn properties(&self) -> Result<Vec<Property>, String> {
        let Some(file) = self.option("config") else {
            return Ok(Vec::new());
        };
        let text = fs::read_to_string(file).map_err(|e| format!("cannot read {file}: {e}"))?;
        let lines = text.lines().map(str::trim).enumerate();
        let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let properties = lines.map(|(number, line)| match line.split_once('=') {
            Some((name, value)) => Ok(Property {
                name: name.trim().to_owned(),
                value: Secret::new(value.trim()),
            }),
            None => Err(format!(
                "{file}, line {}: a property is written name=value",
                number + 1
            )),
        });
        properties.collect()
    }
}

impl fmt::Display for KafkaUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kafka://{}/{}", self.brokers, self.topics.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 2] = ["encoding", "config"];

    fn parse(text: &str) -> Result<KafkaUrl, String> {
        KafkaUrl::parse(text, &KNOWN)
    }

    #[test]
    fn brokers_topics_and_options_are_told_apart() {
        let url = parse("//a:9092,b/shop,pay?encoding=otlp_json").unwrap();
        assert_eq!(url.brokers, "a:9092,b");
        assert_eq!(url.topics, ["shop", "pay"]);
        assert_eq!(url.option("encoding"), Some("otlp_json"));
        assert_eq!(url.option("config"), None);
        assert_eq!(url.to_string(), "kafka://a:9092,b/shop,pay");
        let choices = [("otlp_proto", 1), ("otlp_json", 2)];
        assert_eq!(url.choice("encoding", &choices), Ok(2));
        assert_eq!(url.choice("other", &choices), Ok(1));
    }

    #[test]
    fn the_topic_is_the_collectors_unless_told() {
        for text in ["//a:9092", "//a:9092/", "//a:9092?encoding=otlp_json"] {
            assert_eq!(parse(text).unwrap().topics, ["otlp_spans"], "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_its_value() {
        let cases = [
            ("a:9092", "two slashes"),
            ("///otlp_spans", "no broker"),
            ("//user:hunter2@a:9092", "?config=FILE"),
            ("//a?password=hunter2", "unknown option \"password\""),
            ("//a?config=hunter2&config=hunter2", "given twice"),
        ];
        for (text, expected) in cases {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{text}: {error}");
        }
        let error = parse("//a?encoding=xml").unwrap();
        let error = error.choice("encoding", &[("otlp_proto", ())]).unwrap_err();
        assert_eq!(error, "unknown encoding \"xml\": use otlp_proto");
    }

    #[test]
    fn properties_are_read_from_a_file_and_their_values_are_secret() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("kafka.properties");
        fs::write(&file, "# ours\n\nsasl.username = shop\nsasl.password=a=b\n").unwrap();
        let url = parse(&format!("//a?config={}", file.display())).unwrap();
        let read: Vec<(String, String)> = url
            .properties()
            .unwrap()
            .into_iter()
            .map(|one| (one.name, one.value.expose().to_owned()))
            .collect();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            read,
            [pair("sasl.username", "shop"), pair("sasl.password", "a=b")]
        );
        fs::write(&file, "sasl.username=shop\nhunter2\n").unwrap();
        let error = url.properties().err().unwrap();
        assert!(
            error.contains("line 2") && !error.contains("hunter2"),
            "{error}"
        );
    }
}
