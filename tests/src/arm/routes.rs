//! The requests that ARM, its network provider and the machine's identity endpoint answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{ConnectInfo, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};

use super::cut::Scissors;
use super::faults::Fate;
use super::set::{Machine, ScaleSet};
use super::{Mode, RESOURCE_GROUP, SCALE_SET, SUBSCRIPTION, Shared};

type Parameters = Query<HashMap<String, String>>;
type Ours = State<Arc<Shared>>;

const COMPUTE: &str = "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Compute";
const NETWORK: &str = "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Network";

pub(super) fn all(shared: Arc<Shared>) -> Router {
    let set = format!("{COMPUTE}/virtualMachineScaleSets/{{set}}");
    let operation =
        "/subscriptions/{subscription}/providers/Microsoft.Compute/locations/{place}/operations/{number}";
    Router::new()
        .route(&set, get(read).patch(update))
        .route(&format!("{set}/virtualMachines"), get(instances))
        .route(
            &format!("{set}/virtualMachines/{{id}}"),
            get(instance).put(protect),
        )
        .route(&format!("{set}/delete"), post(delete))
        .route(&format!("{set}/deallocate"), post(deallocate))
        .route(&format!("{set}/networkInterfaces"), get(interfaces_of_set))
        .route(&format!("{COMPUTE}/virtualMachines"), get(machines))
        .route(&format!("{NETWORK}/networkInterfaces"), get(interfaces))
        .route(operation, get(operation_status))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&shared), guard))
        .route("/metadata/identity/oauth2/token", get(token))
        .with_state(shared)
}

/// Issues a token to the machine's identity
/// (<https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token>).
async fn token(State(shared): Ours, Query(query): Parameters, headers: HeaderMap) -> Response {
    let is_asked_well = headers.get("Metadata").is_some_and(|value| value == "true")
        && query
            .get("api-version")
            .is_some_and(|version| version == "2018-02-01");
    let resource = query.get("resource").map(|one| one.trim_end_matches('/'));
    if !is_asked_well || resource != Some("https://management.azure.com") {
        return error(
            StatusCode::BAD_REQUEST,
            "invalid_request",
            "Required metadata header not specified",
        );
    }
    let mut tokens = shared.tokens.lock().unwrap();
    let token = format!("token-{}-of-{}", tokens.len(), shared.url);
    tokens.insert(token.clone());
    let answer =
        json!({ "access_token": token, "expires_in": "3599", "token_type": "Bearer", "resource": resource });
    answer.to_string().into_response()
}

/// Checks the token, the path and the API version of a request, and injects the chosen faults.
async fn guard(
    State(shared): Ours,
    ConnectInfo(scissors): ConnectInfo<Scissors>,
    Path(path): Path<HashMap<String, String>>,
    Query(query): Parameters,
    request: Request,
    next: Next,
) -> Response {
    let bearer = request
        .headers()
        .get("Authorization")
        .and_then(|value| value.to_str().ok());
    let known = bearer
        .and_then(|value| value.strip_prefix("Bearer "))
        .is_some_and(|token| shared.accepts(token));
    if !known {
        return error(
            StatusCode::UNAUTHORIZED,
            "InvalidAuthenticationToken",
            "The access token is invalid.",
        );
    }
    let is = |name: &str, value: &str| {
        path.get(name)
            .is_none_or(|given| given.eq_ignore_ascii_case(value))
    };
    if !is("subscription", SUBSCRIPTION) {
        return error(
            StatusCode::NOT_FOUND,
            "SubscriptionNotFound",
            "The subscription could not be found.",
        );
    }
    if !is("group", RESOURCE_GROUP) || !is("set", SCALE_SET) {
        let message = "The Resource 'Microsoft.Compute/virtualMachineScaleSets' was not found.";
        return error(StatusCode::NOT_FOUND, "ResourceNotFound", message);
    }
    if !query.contains_key("api-version") {
        let message = "The api-version query parameter (?api-version=) is required for all requests.";
        return error(StatusCode::BAD_REQUEST, "MissingApiVersionParameter", message);
    }
    let (fate, delay) = {
        let mut set = shared.set.lock().unwrap();
        set.count_request();
        let delay = set.faults.latency.mul_f64(set.dice.unit());
        let ScaleSet {
            faults,
            dice,
            wait_until,
            ..
        } = &mut *set;
        (faults.fate(dice, wait_until), delay)
    };
    if delay > Duration::ZERO {
        tokio::time::sleep(delay).await;
    }
    match fate {
        Fate::Served => next.run(request).await,
        Fate::AnswerLost => {
            let answer = next.run(request).await;
            scissors.cut();
            answer
        }
        Fate::RequestLost => {
            scissors.cut();
            StatusCode::OK.into_response()
        }
        Fate::Throttled(status) => {
            let status = StatusCode::from_u16(status).unwrap();
            let throttled = error(status, "TooManyRequests", "Slow down.");
            ([("Retry-After", "1")], throttled).into_response()
        }
        Fate::Failed(status) => {
            let status = StatusCode::from_u16(status).unwrap();
            error(status, "InternalServerError", "Something went wrong.")
        }
    }
}

async fn read(State(shared): Ours) -> Response {
    let mut set = shared.set.lock().unwrap();
    set.tick();
    let share = set.faults.stale_readings;
    let (capacity, etag) = match set.dice.falls(share) && set.before.1 > 0 {
        true => set.before,
        false => (set.capacity, set.etag),
    };
    scale_set(&set, capacity, etag).to_string().into_response()
}

async fn update(State(shared): Ours, headers: HeaderMap, body: String) -> Response {
    let mut set = shared.set.lock().unwrap();
    set.tick();
    let expected = headers.get("If-Match").and_then(|value| value.to_str().ok());
    if expected.is_some_and(|expected| expected != "*" && expected != quoted(set.etag)) {
        set.count_stale_etag();
        let message =
            "The ETag provided in the If-Match header does not match the current ETag of the resource.";
        return error(StatusCode::PRECONDITION_FAILED, "PreconditionFailed", message);
    }
    let body: Value = serde_json::from_str(&body).unwrap_or_default();
    let Some(capacity) = body["sku"]["capacity"].as_u64() else {
        return error(
            StatusCode::BAD_REQUEST,
            "InvalidParameter",
            "sku.capacity is missing",
        );
    };
    let number = set.write_capacity(capacity as u32);
    set.tick();
    let status = operation_url(&shared, number);
    let (capacity, etag) = (set.capacity, set.etag);
    let body = scale_set(&set, capacity, etag).to_string();
    ([("Azure-AsyncOperation", status)], body).into_response()
}

async fn instances(State(shared): Ours, Query(query): Parameters) -> Response {
    let mut set = shared.set.lock().unwrap();
    set.tick();
    let with_view = query
        .get("$expand")
        .is_some_and(|expand| expand == "instanceView");
    let all: Vec<Value> = set.machines.values().map(|one| uniform(one, with_view)).collect();
    page(&shared, &set, &query, &set_path("/virtualMachines"), &all)
}

async fn instance(State(shared): Ours, Path(path): Path<HashMap<String, String>>) -> Response {
    let mut set = shared.set.lock().unwrap();
    set.tick();
    match set.number(&path["id"]) {
        Some(number) => uniform(&set.machines[&number], false).to_string().into_response(),
        None => error(StatusCode::NOT_FOUND, "NotFound", "The instance was not found."),
    }
}

async fn protect(State(shared): Ours, Path(path): Path<HashMap<String, String>>, body: String) -> Response {
    let mut set = shared.set.lock().unwrap();
    set.tick();
    let body: Value = serde_json::from_str(&body).unwrap_or_default();
    let policy = &body["properties"]["protectionPolicy"]["protectFromScaleIn"];
    let (Some(is_protected), Mode::Uniform) = (policy.as_bool(), set.settings.mode) else {
        return error(
            StatusCode::BAD_REQUEST,
            "InvalidParameter",
            "protectionPolicy is missing",
        );
    };
    match set.protect(&path["id"], is_protected) {
        true => "{}".into_response(),
        false => error(StatusCode::NOT_FOUND, "NotFound", "The instance was not found."),
    }
}

async fn delete(State(shared): Ours, body: String) -> Response {
    let mut set = shared.set.lock().unwrap();
    set.tick();
    let body: Value = serde_json::from_str(&body).unwrap_or_default();
    let ids: Vec<String> = serde_json::from_value(body["instanceIds"].clone()).unwrap_or_default();
    if ids.is_empty() {
        set.violation("every instance was deleted: no ids were given");
        return error(
            StatusCode::BAD_REQUEST,
            "InvalidParameter",
            "instanceIds is missing",
        );
    }
    match set.delete(&ids) {
        Ok(number) => {
            let url = operation_url(&shared, number);
            let headers = [("Location", url.clone()), ("Azure-AsyncOperation", url)];
            (StatusCode::ACCEPTED, headers).into_response()
        }
        Err(id) => {
            let message = format!(
                "The provided instanceId {id} is not an active Virtual Machine Scale Set VM instanceId."
            );
            error(StatusCode::BAD_REQUEST, "InvalidParameter", &message)
        }
    }
}

async fn deallocate(State(shared): Ours) -> Response {
    shared.set.lock().unwrap().violation("instances were deallocated");
    error(StatusCode::BAD_REQUEST, "OperationNotAllowed", "not here")
}

/// Lists the machines of a Flexible scale set.
async fn machines(State(shared): Ours, Query(query): Parameters) -> Response {
    let mut set = shared.set.lock().unwrap();
    set.tick();
    let filter = format!("'virtualMachineScaleSet/id' eq '{}'", set_path(""));
    let with_view = query
        .get("$expand")
        .is_some_and(|expand| expand == "instanceView");
    let all: Vec<Value> = match query.get("$filter") {
        Some(given) if given.eq_ignore_ascii_case(&filter) && set.settings.mode == Mode::Flexible => set
            .machines
            .values()
            .map(|one| flexible(one, with_view))
            .collect(),
        Some(given) if given.eq_ignore_ascii_case(&filter) => Vec::new(),
        _ => {
            return error(
                StatusCode::BAD_REQUEST,
                "InvalidParameter",
                "the filter is not understood",
            );
        }
    };
    page(
        &shared,
        &set,
        &query,
        &group_path("Microsoft.Compute/virtualMachines"),
        &all,
    )
}

async fn interfaces_of_set(State(shared): Ours, Query(query): Parameters) -> Response {
    let mut set = shared.set.lock().unwrap();
    set.tick();
    if query["api-version"] != "2018-10-01" || set.settings.mode != Mode::Uniform {
        return error(
            StatusCode::BAD_REQUEST,
            "InvalidApiVersionParameter",
            "use 2018-10-01, and only for Uniform",
        );
    }
    let all: Vec<Value> = set
        .machines
        .values()
        .map(|one| interface(one, &uniform_id(one)))
        .collect();
    page(&shared, &set, &query, &set_path("/networkInterfaces"), &all)
}

async fn interfaces(State(shared): Ours, Query(query): Parameters) -> Response {
    let mut set = shared.set.lock().unwrap();
    set.tick();
    let all: Vec<Value> = match set.settings.mode {
        Mode::Flexible => set
            .machines
            .values()
            .map(|one| interface(one, &flexible_id(one)))
            .collect(),
        Mode::Uniform => Vec::new(),
    };
    page(
        &shared,
        &set,
        &query,
        &group_path("Microsoft.Network/networkInterfaces"),
        &all,
    )
}

async fn operation_status(State(shared): Ours, Path(path): Path<HashMap<String, String>>) -> Response {
    let mut set = shared.set.lock().unwrap();
    set.tick();
    let number = path["number"].parse().unwrap_or(0_u64);
    let Some(operation) = set.operations.get(&number) else {
        return error(StatusCode::NOT_FOUND, "NotFound", "The operation was not found.");
    };
    let mut answer =
        json!({ "name": path["number"], "startTime": "2026-01-01T00:00:00Z", "status": "InProgress" });
    if operation.ends.is_some_and(|end| end <= Instant::now()) {
        answer["endTime"] = json!("2026-01-01T00:00:01Z");
        answer["status"] = json!(if operation.fails { "Failed" } else { "Succeeded" });
        if operation.fails {
            let message = "Allocation failed. We do not have sufficient capacity for the requested VM size in this region.";
            answer["error"] = json!({ "code": "AllocationFailed", "message": message });
        }
    }
    answer.to_string().into_response()
}

fn error(status: StatusCode, code: &str, message: &str) -> Response {
    let body = json!({ "error": { "code": code, "message": message } });
    (status, body.to_string()).into_response()
}

fn page(
    shared: &Shared,
    set: &ScaleSet,
    query: &HashMap<String, String>,
    path: &str,
    all: &[Value],
) -> Response {
    let from: usize = query.get("$skiptoken").map_or(0, |token| token.parse().unwrap());
    let to = (from + set.settings.page).min(all.len());
    let mut answer = json!({ "value": all.get(from..to).unwrap_or_default() });
    if to < all.len() {
        let mut next = url::Url::parse(&format!("{}{path}", shared.url)).unwrap();
        for (name, value) in query.iter().filter(|(name, _)| *name != "$skiptoken") {
            next.query_pairs_mut().append_pair(name, value);
        }
        next.query_pairs_mut().append_pair("$skiptoken", &to.to_string());
        if set.faults.foreign_pages {
            next.set_host(Some("localhost")).unwrap();
        }
        answer["nextLink"] = json!(next.as_str());
    }
    answer.to_string().into_response()
}

fn scale_set(set: &ScaleSet, capacity: u32, etag: u64) -> Value {
    let is_busy = set
        .operations
        .values()
        .any(|one| one.ends.is_none_or(|end| end > Instant::now()));
    let mode = match set.settings.mode {
        Mode::Uniform => "Uniform",
        Mode::Flexible => "Flexible",
    };
    json!({
        "id": set_path(""), "name": SCALE_SET, "type": "Microsoft.Compute/virtualMachineScaleSets",
        "location": "westeurope", "etag": quoted(etag),
        "sku": { "name": "Standard_D2as_v5", "tier": "Standard", "capacity": capacity },
        "properties": {
            "orchestrationMode": mode, "overprovision": false, "singlePlacementGroup": false,
            "provisioningState": if is_busy { "Updating" } else { "Succeeded" },
        },
    })
}

fn uniform(machine: &Machine, with_view: bool) -> Value {
    let mut value = properties(machine, with_view);
    value["id"] = json!(uniform_id(machine));
    value["name"] = json!(format!("{SCALE_SET}_{}", machine.key));
    value["instanceId"] = json!(machine.key);
    value["type"] = json!("Microsoft.Compute/virtualMachineScaleSets/virtualMachines");
    value["properties"]["latestModelApplied"] = json!(true);
    value["properties"]["protectionPolicy"] = json!({ "protectFromScaleIn": machine.is_protected });
    value
}

fn flexible(machine: &Machine, with_view: bool) -> Value {
    let mut value = properties(machine, with_view);
    value["id"] = json!(flexible_id(machine));
    value["name"] = json!(machine.key);
    value["type"] = json!("Microsoft.Compute/virtualMachines");
    value["properties"]["virtualMachineScaleSet"] = json!({ "id": set_path("") });
    value
}

fn properties(machine: &Machine, with_view: bool) -> Value {
    let (provisioning, power) = machine.states();
    let mut value = json!({
        "location": "westeurope",
        "properties": { "provisioningState": provisioning, "timeCreated": machine.created.to_string() },
    });
    if with_view {
        let provisioning = format!("ProvisioningState/{}", provisioning.to_lowercase());
        let statuses: Vec<Value> = std::iter::once(provisioning.as_str())
            .chain(power)
            .map(|code| json!({ "code": code, "level": "Info", "displayStatus": code }))
            .collect();
        value["properties"]["instanceView"] = json!({ "statuses": statuses });
    }
    value
}

/// ARM does not keep the case of ids, least of all in references.
fn interface(machine: &Machine, id: &str) -> Value {
    json!({
        "name": "nic", "id": format!("{id}/networkInterfaces/nic"),
        "properties": {
            "primary": true, "virtualMachine": { "id": id.to_uppercase() },
            "ipConfigurations": [{
                "name": "ip", "properties": { "primary": true, "privateIPAddress": machine.agent.address.to_string() },
            }],
        },
    })
}

fn group_path(rest: &str) -> String {
    format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/{RESOURCE_GROUP}/providers/{rest}")
}

fn set_path(rest: &str) -> String {
    group_path(&format!(
        "Microsoft.Compute/virtualMachineScaleSets/{SCALE_SET}{rest}"
    ))
}

fn uniform_id(machine: &Machine) -> String {
    set_path(&format!("/virtualMachines/{}", machine.key))
}

fn flexible_id(machine: &Machine) -> String {
    group_path(&format!("Microsoft.Compute/virtualMachines/{}", machine.key))
}

fn operation_url(shared: &Shared, number: u64) -> String {
    format!(
        "{}/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Compute/locations/westeurope/operations/{number}\
         ?api-version=2026-03-01",
        shared.url
    )
}

fn quoted(etag: u64) -> String {
    format!("\"{etag}\"")
}
