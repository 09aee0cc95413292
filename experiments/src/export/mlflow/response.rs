//! Reading the server's answers.

use serde_json::Value;

use super::{
    error::MlflowError,
    transport::{Request, Response},
};

/// The most characters of a server's text that is no JSON in a message.
const SHOWN: usize = 200;

/// An answer of status 2xx, with the request that it answers.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    request: &'a Request,
    body: Value,
}

impl<'a> Answer<'a> {
    /// The answer's document; null where it is empty or no JSON.
    ///
    /// # Errors
    ///
    /// If the status is not 2xx.
    pub(super) fn new(request: &'a Request, response: &Response) -> Result<Self, MlflowError> {
        let body: Value = serde_json::from_slice(&response.body).unwrap_or_default();
        if (200..300).contains(&response.status) {
            return Ok(Self { request, body });
        }
        let code = body["error_code"].as_str().unwrap_or_default();
        let message = match body["message"].as_str() {
            Some(message) => format!("{code}: {message}"),
            None => String::from_utf8_lossy(&response.body)
                .chars()
                .take(SHOWN)
                .collect(),
        };
        Err(MlflowError::Refused {
            method: request.method,
            path: request.path.clone(),
            status: response.status,
            code: code.to_owned(),
            message: message.split_whitespace().collect::<Vec<_>>().join(" "),
        })
    }

    /// The string at `field`, a path with dots.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub(super) fn text(&self, field: &'static str) -> Result<String, MlflowError> {
        self.text_in(&self.body, field)
    }

    /// The string at `field` of a part of the answer.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub(super) fn text_in(&self, part: &Value, field: &'static str) -> Result<String, MlflowError> {
        let found = field.split('.').fold(part, |value, name| &value[name]);
        let text = found.as_str().map(ToOwned::to_owned);
        text.ok_or_else(|| MlflowError::Field {
            method: self.request.method,
            path: self.request.path.clone(),
            field,
        })
    }

    /// The objects of the list at `field`; none if it is absent.
    pub(super) fn list(&self, field: &str) -> &[Value] {
        list(&self.body[field])
    }
}

/// The members of a list; none if it is absent.
fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Keys and values of a list of `{key, value}`. An empty value may be absent.
pub(super) fn pairs(value: &Value) -> Vec<(&str, &str)> {
    let pairs = list(value).iter();
    pairs
        .filter_map(|pair| {
            Some((
                pair["key"].as_str()?,
                pair["value"].as_str().unwrap_or_default(),
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::mlflow::request::create_experiment;

    fn refused(status: u16, body: &str) -> MlflowError {
        let body = body.as_bytes().to_vec();
        Answer::new(&create_experiment("a"), &Response { status, body }).unwrap_err()
    }

    #[test]
    fn a_refusal_is_one_line() {
        let error = refused(
            400,
            r#"{"error_code": "RESOURCE_ALREADY_EXISTS", "message": "it\nis there"}"#,
        );
        assert_eq!(
            error.to_string(),
            "MLflow refuses POST /api/2.0/mlflow/experiments/create: 400 RESOURCE_ALREADY_EXISTS: it is there"
        );
        assert!(error.is_existing() && !error.is_servers_fault());
        let error = refused(502, "<html>\n bad gateway</html>");
        assert!(error.to_string().ends_with("502 <html> bad gateway</html>"));
        assert!(error.is_servers_fault());
    }

    #[test]
    fn names_what_is_missing() {
        let request = create_experiment("a");
        let body = b"{}".to_vec();
        let answer = Answer::new(&request, &Response { status: 200, body }).unwrap();
        assert_eq!(
            answer.text("run.info.run_id").unwrap_err().to_string(),
            "MLflow's answer to POST /api/2.0/mlflow/experiments/create has no `run.info.run_id`"
        );
        assert!(answer.list("runs").is_empty());
    }

    #[test]
    fn empty_values_may_be_absent() {
        let value = serde_json::json!([{ "key": "a", "value": "1" }, { "key": "b" }, 3]);
        assert_eq!(pairs(&value), [("a", "1"), ("b", "")]);
        assert!(pairs(&Value::Null).is_empty());
    }
}
