//! What gateways tell each other, and show of streams that are watched.

use bytes::Bytes;
use cloudpose_bus::Bus;
use cloudpose_testing::{
    sample::{address, frame, news, pose, view},
    soon,
};
use cloudpose_wire::{DropReason, GatewayId, Kind, Route, StreamName, Tenant};

pub(super) async fn gateways_tell_and_show_each_other(bus: Bus) {
    let [mut one, mut two] = [bus.news().await, bus.news().await];
    bus.tell(news("a")).await.unwrap();
    assert_eq!(soon(one.next()).await, Some(news("a")));
    assert_eq!(soon(two.next()).await, Some(news("a")));

    let (nobody, acme) = (Tenant::default(), Tenant::new("acme").unwrap());
    let [cam, door] = ["cam", "door"].map(|name| StreamName::new(name).unwrap());
    let mut of_cam = [bus.views(&nobody, &cam).await, bus.views(&nobody, &cam).await];
    let mut of_acme = bus.views(&acme, &cam).await;
    bus.show(&nobody, &door, view(1)).await.unwrap();
    bus.show(&acme, &cam, view(2)).await.unwrap();
    bus.show(&nobody, &cam, view(3)).await.unwrap();
    bus.show(&nobody, &cam, view(4)).await.unwrap();
    for views in &mut of_cam {
        assert_eq!(soon(views.next()).await, Some(view(3)), "without a picture");
        assert_eq!(soon(views.next()).await, Some(view(4)), "with a picture");
    }
    assert_eq!(soon(of_acme.next()).await, Some(view(2)), "a tenant sees what is its own");
}

pub(super) async fn results_reach_the_gateway_they_name(bus: Bus) {
    let mut first = bus.results(&GatewayId::new("g1").unwrap()).await;
    let mut second = bus.results(&GatewayId::new("g2").unwrap()).await;
    for (gateway, seq) in [("g2", 1), ("nobody", 2), ("g1", 3)] {
        let mut header = frame(Kind::Live, seq).header;
        header.route = Route::Live(address(gateway));
        bus.reply(header.dropped(DropReason::Expired, "too old")).await.unwrap();
    }
    assert_eq!(first.next().await.unwrap().seq, 3);
    assert_eq!(second.next().await.unwrap().seq, 1);
    let mut header = frame(Kind::Live, 4).header;
    header.route = Route::Live(address("g1"));
    let done = header.done(pose(4), Some(Bytes::from_static(b"jpeg")));
    bus.reply(done.clone()).await.unwrap();
    assert_eq!(first.next().await.unwrap(), done);
}
