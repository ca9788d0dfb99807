//! While NATS, a relay or the process is gone.

use super::setup::world_of;
use talaria_tests::{
    browser::Browser,
    fleet::{Ledger, fleet},
    free_port,
    nats::Server,
    stack::stack,
    until,
};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn while_nats_is_gone_the_page_says_so_and_goes_on_when_it_is_back() {
    let mut server = Server::start().await;
    let bus = format!("bus: {{nats: {{servers: [\"{}\"]}}}}", server.url());
    let world = world_of(stack().with(&bus)).await;
    world.delivered("first").await;
    let browser = world.browser().await;
    browser.open("/").await;
    browser.until_shows("#live", "Live").await;
    browser.run("window.stays = true", &[]).await;
    server.stop().await;
    browser.until_shows("#bus", "The bus cannot be used.").await;
    let other = world.browser().await;
    other.open("/deliveries").await;
    other.shows("main", &["The bus cannot be used.", "first"]).await;
    server.start_again().await;
    until("a callback to be taken", async || {
        (world.stack.openrouter("acme").try_send("second", "completed").await? == 204).then_some(())
    })
    .await;
    let back = "const row = [...document.querySelectorAll('#overview tbody tr')].find((row) => row.innerText.includes('acme/video'));
                return document.getElementById('bus').innerText === '' && row.querySelectorAll('.number')[1].innerText === '2'";
    browser.until("the page to go on", back, &[]).await;
    assert_eq!(browser.run("return window.stays", &[]).await, true);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn while_one_of_two_relays_is_killed_the_other_ones_page_goes_on() {
    let (server, ledger) = (Server::start().await, Ledger::start().await);
    let mut fleet = fleet(&ledger).over(&[server.url()]).relays(2).start().await;
    let browser = Browser::start(fleet.relays[0].console()).await;
    browser.open("/relays").await;
    browser
        .until("two relays", "return document.querySelectorAll('#relays tbody tr').length === 2", &[])
        .await;
    browser.until_shows("#relays", "ALL OWNED").await;
    fleet.relays[1].kill();
    let all = "return document.querySelectorAll('#relays tbody tr').length === 1
               && document.querySelector('#relays').innerText.includes('ALL OWNED')";
    browser.until("one relay to own all", all, &[]).await;
    browser.shows("#live", &["Live"]).await;
    browser.open("/deliveries").await;
    let event = fleet.openrouter("tenant-0").send("a job", "completed").await;
    browser.until_shows("#deliveries", "a job").await;
    browser.open(&format!("/events/{event}")).await;
    browser.until_shows("#event", "DELIVERED").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn an_open_page_goes_on_when_its_process_is_restarted() {
    let console = format!("console: {{listen: 127.0.0.1:{}}}", free_port());
    let mut world = world_of(stack().with(&console)).await;
    world.delivered("first").await;
    let browser = world.browser().await;
    browser.open("/deliveries").await;
    browser.until_shows("#live", "Live").await;
    browser.run("window.stays = true", &[]).await;
    world.stack.kill_and_restart().await;
    world.delivered("second").await;
    browser.until_shows("#deliveries", "second").await;
    browser.until_shows("#live", "Live").await;
    browser.shows("#deliveries", &["first"]).await;
    assert_eq!(browser.run("return window.stays", &[]).await, true);
}
