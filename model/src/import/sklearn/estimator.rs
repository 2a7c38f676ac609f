//! An object of scikit-learn, with the attributes that scoring needs.

use super::super::ImportError;
use super::super::numpy::{self, Array};
use super::super::value::{Id, Value, Values};

/// An object to read attributes from, with its class for errors.
#[derive(Clone, Copy)]
pub(super) struct Estimator<'v, 'a> {
    pub(super) values: &'v Values<'a>,
    pub(super) id: Id,
    pub(super) class: &'static str,
}

impl<'v, 'a> Estimator<'v, 'a> {
    /// Looks at an object; `None` if it is no estimator that this importer knows.
    pub(super) fn of(values: &'v Values<'a>, id: Id) -> Option<Self> {
        let class = values.class(id)?.name();
        (!class.is_empty()).then_some(Self { values, id, class })
    }

    /// Returns an attribute that is an estimator.
    pub(super) fn inner(self, attribute: &'static str) -> Result<Self, ImportError> {
        let id = self.required(attribute)?;
        Self::of(self.values, id).ok_or_else(|| ImportError::Inner {
            class: self.class,
            attribute,
            found: self.values.kind(id),
        })
    }

    /// Checks the class of an estimator inside a wrapper.
    pub(super) fn check_class(self, class: &'static str) -> Result<(), ImportError> {
        if self.class == class {
            return Ok(());
        }
        let (step, found) = (class.to_owned(), self.values.kind(self.id));
        Err(ImportError::Step { step, found })
    }

    /// Returns the names of the columns of the table that it was fitted on, if it was fitted on one.
    pub(super) fn columns(self) -> Option<Vec<String>> {
        let names = numpy::texts(self.values, self.optional("feature_names_in_")?)?;
        Some(names.into_iter().map(str::to_owned).collect())
    }

    /// Reads an attribute that is an array of one dimension, or of two with one row.
    pub(super) fn row(self, attribute: &'static str) -> Result<Vec<f64>, ImportError> {
        let array = self.array(attribute)?;
        match *array.shape {
            [_] | [1, _] => Ok(array.numbers),
            _ => Err(self.wrong(attribute, "is a table, not a row")),
        }
    }

    /// Reads an attribute that is one number, also in an array.
    pub(super) fn single(self, attribute: &'static str) -> Result<f64, ImportError> {
        if let Ok(number) = self.number(attribute) {
            return Ok(number);
        }
        match *self.array(attribute)?.numbers {
            [number] => Ok(number),
            _ => Err(self.wrong(attribute, "is not one number")),
        }
    }

    /// Reads an attribute that counts something.
    pub(super) fn count(self, attribute: &'static str) -> Result<usize, ImportError> {
        let number = self.number(attribute)?;
        // Far below 2^53, and whatever is not whole is refused.
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss
        )]
        match number as usize {
            count if count as f64 == number => Ok(count),
            _ => Err(self.wrong(attribute, "is not a count")),
        }
    }

    /// Reads a list or an array of indices.
    pub(super) fn indices(values: &Values<'_>, id: Id) -> Option<Vec<usize>> {
        let index = |number: f64| {
            // As above.
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss
            )]
            let index = number as usize;
            #[allow(clippy::cast_precision_loss)]
            let whole = index as f64 == number;
            whole.then_some(index)
        };
        if let Some(items) = values.items(id) {
            return items
                .iter()
                .map(|item| index(numpy::number(values, *item).ok()?))
                .collect();
        }
        let array = Array::read(values, id).ok()?;
        array.numbers.into_iter().map(index).collect()
    }

    pub(super) fn optional(self, attribute: &str) -> Option<Id> {
        self.values.attribute(self.id, attribute)
    }

    pub(super) fn required(self, attribute: &'static str) -> Result<Id, ImportError> {
        let class = self.class;
        self.optional(attribute)
            .ok_or(ImportError::Missing { class, attribute })
    }

    pub(super) fn wrong(self, attribute: &'static str, problem: &'static str) -> ImportError {
        ImportError::Attribute {
            class: self.class,
            attribute,
            problem,
        }
    }

    pub(super) fn flag(self, attribute: &'static str) -> Result<bool, ImportError> {
        match self.values.get(self.required(attribute)?) {
            Value::Bool(flag) => Ok(*flag),
            _ => Err(self.wrong(attribute, "is neither True nor False")),
        }
    }

    pub(super) fn number(self, attribute: &'static str) -> Result<f64, ImportError> {
        let id = self.required(attribute)?;
        numpy::number(self.values, id).map_err(|problem| self.wrong(attribute, problem))
    }

    pub(super) fn array(self, attribute: &'static str) -> Result<Array, ImportError> {
        let id = self.required(attribute)?;
        Array::read(self.values, id).map_err(|problem| self.wrong(attribute, problem))
    }

    /// Reads the first of two attributes, or the second if the first is missing.
    pub(super) fn first_of(self, [first, second]: [&'static str; 2]) -> Result<Array, ImportError> {
        self.array(if self.optional(first).is_some() {
            first
        } else {
            second
        })
    }
}
