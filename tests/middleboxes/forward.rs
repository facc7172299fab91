//! tinyproxy and Privoxy, forward proxies: a process for each way to set them up.

use super::Case;
use super::boxes::{Origin, Running, folder, free_ports};

/// What filters text, and lets nobody tunnel to other ports than 443: streams of plain servers are held back then.
const FILTERS: &str = "{+limit-connect{443} +filter{banners-by-size} +force-text-mode}\n/\n";

pub(crate) async fn start(origin: Origin) -> (Vec<Running>, Vec<Case>) {
    let [open, shut, reverse, plain, filters] = free_ports();
    let server = format!("http://localhost:{}/live", origin.server.port());
    let reversed = format!("ReverseOnly Yes\nReversePath \"/\" \"http://{}/\"\n", origin.server);
    let running = vec![
        tinyproxy("tinyproxy", open, "").await,
        tinyproxy("tinyproxy-443", shut, "ConnectPort 443\n").await,
        tinyproxy("tinyproxy-reverse", reverse, &reversed).await,
        privoxy("privoxy", plain, "").await,
        privoxy("privoxy-filters", filters, FILTERS).await,
    ];
    let through = |name: &str, port: u16| {
        Case::new(format!("{name}, http://"), &server).proxy(format!("http://localhost:{port}"))
    };
    let cases = vec![
        through("tinyproxy, default", open),
        through("tinyproxy, CONNECT to 443 only", shut),
        Case::new("tinyproxy, in front", format!("http://localhost:{reverse}/live")),
        through("Privoxy, default", plain),
        through("Privoxy, CONNECT to 443 only, filters text", filters),
    ];
    (running, cases)
}

async fn tinyproxy(name: &str, port: u16, rules: &str) -> Running {
    let folder = folder(name);
    let own = format!("Port {port}\nListen 127.0.0.1\nTimeout 600\nMaxClients 100\nAllow 127.0.0.1\n{rules}");
    std::fs::write(folder.join("tinyproxy.conf"), own).unwrap();
    Running::new("tinyproxy", &["-d", "-c", "tinyproxy.conf"], &folder, &[port]).await
}

async fn privoxy(name: &str, port: u16, actions: &str) -> Running {
    let folder = folder(name);
    let here = folder.display();
    std::fs::write(folder.join("own.action"), actions).unwrap();
    // As Debian sets it up.
    let config = format!(
        "confdir /etc/privoxy\nlogdir {here}\nlisten-address 127.0.0.1:{port}\nactionsfile match-all.action\n\
         actionsfile default.action\nactionsfile {here}/own.action\nfilterfile default.filter\nlogfile logfile\ntoggle 1\n\
         buffer-limit 4096\nkeep-alive-timeout 5\ntolerate-pipelining 1\nsocket-timeout 300\n"
    );
    std::fs::write(folder.join("config"), config).unwrap();
    let file = folder.join("config");
    Running::new("privoxy", &["--no-daemon", file.to_str().unwrap()], &folder, &[port]).await
}
