//! The median.

/// Returns the median of at least one number: the mean of the two in the middle of an even number.
pub(crate) fn median(numbers: &mut [f64]) -> f64 {
    let middle = numbers.len() / 2;
    let even = numbers.len().is_multiple_of(2);
    let (below, upper, _) = numbers.select_nth_unstable_by(middle, f64::total_cmp);
    if !even {
        return *upper;
    }
    let lower = below.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    lower.midpoint(*upper)
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_of_an_even_number_is_between_the_two_in_the_middle() {
        assert_eq!(median(&mut [10.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median(&mut [9.0, -1.0, 4.0]), 4.0);
        assert_eq!(median(&mut [7.0]), 7.0);
    }
}
