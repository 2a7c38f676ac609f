//! Imported models decide as scikit-learn does, and refused pickles say why.

use windrow_model::{ImportError, Kernel, ModelError, import, is_anomaly};

use crate::fixtures::{VERSIONS, case, cases, decide};

const NEWEST: &str = VERSIONS[1];

#[test]
fn imported_models_decide_as_scikit_learn_did() {
    let mut pickles = 0;
    for version in VERSIONS {
        for case in cases(version) {
            for protocol in &case.protocols {
                let model = import(&case.pickle(version, *protocol), case.features()).unwrap();
                let decisions = decide(&model, &case.rows);
                assert_eq!(decisions.len(), case.decisions.len());
                for (decision, right) in decisions.iter().zip(&case.decisions) {
                    // Decisions of linear and polynomial kernels are in the thousands.
                    let close = (decision - right).abs() <= 1e-12 * right.abs().max(1.0);
                    let label = is_anomaly(*decision) == is_anomaly(*right);
                    assert!(
                        close && label,
                        "{version} {} {protocol}: {decision} is not {right}",
                        case.name
                    );
                }
                pickles += 1;
            }
        }
    }
    assert_eq!(pickles, 43);
}

#[test]
fn every_protocol_gives_the_very_same_model() {
    for version in VERSIONS {
        for case in cases(version) {
            let versions = case.protocols.iter().map(|protocol| {
                let model = import(&case.pickle(version, *protocol), case.features()).unwrap();
                assert_eq!(model.provenance(), format!("scikit-learn {version}"));
                model.version().unwrap()
            });
            let mut versions: Vec<String> = versions.collect();
            versions.dedup();
            assert_eq!(versions.len(), 1, "{}", case.name);
        }
    }
}

#[test]
fn the_parts_of_a_model_are_those_of_the_pickle() {
    let model = |name: &str| {
        let case = case(name);
        import(&case.pickle(NEWEST, case.protocols[0]), case.features()).unwrap()
    };
    assert_eq!(model("linear-4d").svm().unwrap().kernel(), Kernel::Linear);
    assert_eq!(
        model("rbf-auto-4d").svm().unwrap().kernel(),
        Kernel::Rbf { gamma: 0.25 }
    );
    let cubic = Kernel::Polynomial {
        gamma: 0.25,
        coef0: 1.0,
        degree: 3,
    };
    match model("poly-4d").svm().unwrap().kernel() {
        Kernel::Polynomial { gamma, coef0, degree } => {
            // scikit-learn's "scale" on standardised data, up to rounding.
            assert!((gamma - 0.25).abs() < 1e-12 && coef0 == 1.0 && degree == 3);
        }
        other => panic!("{other:?} is not {cubic:?}"),
    }
    assert_eq!(model("no-mean-4d").scaler().unwrap().mean(), [0.0; 4]);
    assert_eq!(model("no-std-4d").scaler().unwrap().scale(), [1.0; 4]);
    assert!(model("neither-4d").scaler().is_none() && model("rbf-1d").scaler().is_none());
    let odd = model("odd-arrays-4d");
    assert_eq!(odd.scaler().unwrap().mean(), [34.0, 1.0, 32.0, 37.0]);
    assert_eq!(odd.scaler().unwrap().scale(), [2.0, 1.0, 4.0, 4.0]);
}

#[test]
fn features_have_to_be_the_columns_it_was_fitted_on() {
    let pickle = case("scaled-4d").pickle(NEWEST, 3);
    let wrong = import(&pickle, "mean".parse().unwrap());
    let Err(ImportError::Model(ModelError::FeatureCount {
        dimension: 4,
        named: 1,
        ..
    })) = wrong
    else {
        panic!("{wrong:?}");
    };
    let named = case("odd-arrays-4d").pickle(NEWEST, 0);
    // The order of the columns is that of the model.
    let model = import(&named, "std,mean,min,max".parse().unwrap()).unwrap();
    assert_eq!(model.features().to_string(), "mean,std,min,max");
    let error = import(&named, "count,mean,min,max".parse().unwrap()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the model was fitted on the columns mean,std,min,max, which are the features mean,std,min,max, but \
         count,mean,min,max are named: name the features that it was fitted on"
    );
}

/// Returns the error for a handwritten pickle.
fn refused(pickle: impl AsRef<[u8]>) -> ImportError {
    import(pickle.as_ref(), "mean".parse().unwrap()).unwrap_err()
}

const SVM: &str = "csklearn.svm._classes\nOneClassSVM\n)\u{81}";
/// A scaler that neither centres nor scales.
const SCALER: &str =
    "csklearn.preprocessing._data\nStandardScaler\n)\u{81}}(Vwith_mean\nI00\nVwith_std\nI00\nub";

/// Converts characters to bytes: an instruction above 0x7f is one byte in a pickle but two in a `str`.
fn bytes(pickle: &str) -> Vec<u8> {
    pickle
        .chars()
        .map(|character| u8::try_from(character).unwrap())
        .collect()
}

fn pipeline(steps: &str) -> Vec<u8> {
    bytes(&format!(
        "csklearn.pipeline\nPipeline\n)\u{81}}}Vsteps\n({steps}lsb."
    ))
}

#[test]
fn what_is_no_fitted_one_class_svm_is_refused_and_named() {
    for (pickle, says) in [
        (&b"I1\n."[..], "holds a number"),
        // More than 64 bits, as the state of a random generator has.
        (b"\x8a\x09\x01\x01\x01\x01\x01\x01\x01\x01\x01.", "holds a number"),
        (b"N.", "holds None"),
        (b"]\x940.", "too little on the stack"),
        (b"\x01\x02", "not a model that can be imported"),
        (b"hello", "a memo that was never written"),
        (b"\x80\x06N.", "protocol 6"),
        (b"S'text'\n.", "Python 2"),
        (b"N.N.", "end at byte 2"),
        (b"NN.", "left over"),
        (b"", "empty"),
        (b"\x80\x03\x8b\0\0\0\0.", "0x8b"),
        (b"cjoblib.numpy_pickle\nNDArrayWrapper\n.", "old joblib"),
        (b"cscipy.sparse._csr\ncsr_matrix\n.", "sparse"),
        (b"cscipy.sparse\n_\n.", "sparse"),
        (b"csklearn.svm._classes\nOneClassSVM\n.", "holds a class itself"),
        (b"csklearn.svm._classes\nSVC\n)\x81.", "holds a SVC"),
    ] {
        let error = refused(pickle).to_string();
        assert!(error.contains(says), "{}: {error}", pickle.escape_ascii());
    }
    for (pickle, says) in [
        (format!("{SCALER}."), "holds a StandardScaler without a detector"),
        (format!("{SVM}."), "OneClassSVM has no `_sparse`: fit it"),
        (format!("{SVM}}}V_sparse\nI00\nsb."), "has no `kernel`"),
        (format!("{SVM}}}V_sparse\nI01\nsb."), "sparse"),
        (
            format!("{SVM}}}(V_sparse\nI00\nVkernel\nVrbf\nub."),
            "no `_gamma`: fit",
        ),
        (
            format!("{SVM}}}(V_sparse\nI00\nVkernel\nI3\nub."),
            "not the name of a kernel",
        ),
        (
            format!("{SVM}}}(V_sparse\nI00\nVkernel\nVmine\nub."),
            "kernel is `mine`",
        ),
        (
            format!("{SVM}}}(V_sparse\nI00\nVkernel\nVrbf\nV_gamma\nVscale\nub."),
            "`_gamma` is not a number",
        ),
        (
            format!("{SVM}}}(V_sparse\nI00\nVkernel\nVlinear\nVsupport_vectors_\n]ub."),
            "`support_vectors_` is not an array",
        ),
    ] {
        let error = refused(bytes(&pickle)).to_string();
        assert!(error.contains(says), "{pickle}: {error}");
    }
}

#[test]
fn pipelines_of_other_shapes_are_refused_and_named() {
    let plane = array("I1\n", "f8", ">", ONE);
    let fitted = format!(
        "csklearn.linear_model._stochastic_gradient\nSGDOneClassSVM\n)\u{81}}}(Vcoef_\n{plane}Voffset_\nF0.5\nub"
    );
    let mut deep = format!("(Va\n{fitted}t");
    for _ in 0..20 {
        deep = format!("(Va\ncsklearn.pipeline\nPipeline\n)\u{81}}}Vsteps\n({deep}lsbt");
    }
    for (steps, says) in [
        (String::new(), "a Pipeline without a detector"),
        (format!("(Va\n{SCALER}t"), "a Pipeline without a detector"),
        (
            format!("(Va\n{fitted}t(Vb\n{SCALER}t"),
            "step `b` is a StandardScaler after the detector",
        ),
        (format!("(Va\nS\nt(Vb\n{SVM}t"), "Python 2"),
        (format!("(Va\nVdrop\nt(Vb\n{SVM}t"), "step `a` is a text"),
        (deep, "step `a` is a Pipeline"),
        (SVM.into(), "`steps` is not a list of names and estimators"),
    ] {
        let error = refused(pipeline(&steps)).to_string();
        assert!(error.contains(says), "{steps}: {error}");
    }
}

/// Returns a pickled linear SVM with one vector, from its pickled parts.
fn svm_of(vectors: &str, coefficients: &str, intercept: &str) -> Vec<u8> {
    bytes(&format!(
        "{SVM}}}(V_sparse\nI00\nVkernel\nVlinear\nVsupport_vectors_\n{vectors}V_dual_coef_\n{coefficients}\
         V_intercept_\n{intercept}ub."
    ))
}

/// Returns an array in protocol 0, from its shape, type, byte order and bytes as text.
fn array(shape: &str, dtype: &str, order: &str, data: &str) -> String {
    format!(
        "cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntVb\ntR(I1\n({shape}tcnumpy\ndtype\n(V{dtype}\n\
         I00\nI01\ntR(I3\nV{order}\nNNNtbI00\nc_codecs\nencode\n(V{data}\nVlatin1\ntRtb"
    )
}

/// 1.0 in eight bytes, big endian.
const ONE: &str = "?\u{f0}\0\0\0\0\0\0";

#[test]
fn arrays_that_do_not_hold_what_they_say_are_refused() {
    let one = array("I1\nI1\n", "f8", ">", ONE);
    let single = array("I1\n", "f8", ">", ONE);
    let model = import(&svm_of(&one, &one, &single), "mean".parse().unwrap()).unwrap();
    assert_eq!(decide(&model, &[3.0]), [4.0]);

    for (vectors, says) in [
        (array("I1\nI2\n", "f8", ">", ONE), "size does not match"),
        (array("I-1\nI-1\n", "f8", ">", ONE), "size does not match"),
        (
            array("I4294967296\nI4294967296\n", "f8", ">", ONE),
            "size does not match",
        ),
        (
            array("I2305843009213693952\nI8\n", "f8", ">", ONE),
            "size does not match",
        ),
        (
            array("I0\nI9223372036854775807\n", "f8", ">", ""),
            "another length",
        ),
        (array("I1\n", "f8", ">", ONE), "not a table of vectors"),
        (array("I1\nI1\nI1\n", "f8", ">", ONE), "more than two dimensions"),
        (array("I1\nI1\n", "c8", ">", ONE), "a plain type"),
        (array("I1\nI1\n", "f8", "|", ONE), "in which order"),
        (
            array("I1\nI1\n", "f8", ">", "\\u0100\0\0\0\0\0\0\0"),
            "a plain type",
        ),
        (
            array("I1\nI1\n", "f8", ">", "\u{7f}\u{f0}\0\0\0\0\0\0"),
            "not a finite number",
        ),
    ] {
        let error = refused(svm_of(&vectors, &one, &single)).to_string();
        assert!(error.contains(says), "{says}: {error}");
    }
    let two = array("I1\nI2\n", "f8", ">", &ONE.repeat(2));
    assert!(
        refused(svm_of(&one, &two, &single))
            .to_string()
            .contains("another length")
    );
    assert!(
        refused(svm_of(&one, &one, &two))
            .to_string()
            .contains("not one number")
    );
}
