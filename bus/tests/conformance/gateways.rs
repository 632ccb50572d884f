//! What gateways tell each other, and show of streams that are watched.

use cloudpose_bus::Bus;
use cloudpose_testing::{
    sample::{news, view},
    soon,
};
use cloudpose_wire::{StreamName, Tenant};

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
