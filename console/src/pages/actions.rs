//! Who did what.

use super::{
    delivery::did,
    form::Fields,
    frame::Page,
    parts::{self, pager},
    visitor::Visitor,
};
use crate::fault::Fault;
use maud::{Markup, html};
use talaria_core::short_id::short;
use talaria_proto::v1::{ControlAction, ListControlActionsRequest};

const PAGE_SIZE: u32 = 50;

pub(super) async fn page(visitor: &Visitor, fields: &Fields) -> Result<Page, Fault> {
    let request = ListControlActionsRequest {
        page_size: PAGE_SIZE,
        page_token: fields.text("page").to_owned(),
        ..ListControlActionsRequest::default()
    };
    let answer = visitor.control().list_control_actions(request).await?.into_inner();
    let rows: Vec<Markup> = answer.actions.iter().map(row).collect();
    let main = html! {
        h1 { "Actions" }
        div data-live id="actions" {
            (parts::incomplete(answer.incomplete))
            (parts::table("Actions", &["When", "What", "Which"], &rows, "No operator did anything."))
        }
        (pager("/actions", fields, &[], &answer.next_page_token))
    };
    Ok(Page::new("Actions", "/actions", main))
}

fn row(action: &ControlAction) -> Markup {
    html! {
        th scope="row" { (parts::time(action.at.as_ref())) }
        td.wide { (did(action)) }
        td {
            @if !action.delivery_id.is_empty() { (parts::id("deliveries", &action.delivery_id)) " " }
            @if !action.job_id.is_empty() { (parts::id("jobs", &action.job_id)) " " }
            @if !action.replay_job_id.is_empty() { a.id href="/replays" title=(action.replay_job_id) { (short(&action.replay_job_id)) } " " }
            @if !action.route.is_empty() { a href={ "/routes/" (action.tenant) "/" (action.route) } { (action.tenant) "/" (action.route) } }
            @else { (parts::text(&action.tenant)) }
        }
    }
}
