//! The stores of Walport.
