//! nginx as Debian packages it: one process, no log, `return 202`.

use super::Answer;
use anyhow::{Context, Result, bail};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running one; killed when dropped.
#[derive(Debug)]
pub struct Nginx {
    child: Child,
    pub address: SocketAddr,
}

impl Nginx {
    pub fn start(core: usize, program: &Path, scratch: &Path, answer: &Answer) -> Result<Self> {
        let address = crate::server_child::free_address()?;
        let home = scratch.join("nginx");
        std::fs::create_dir_all(&home)?;
        let config = home.join("nginx.conf");
        std::fs::write(&config, text(address, &home, answer)?)?;
        let child = crate::machine::on_core(core, || {
            let mut command = Command::new(program);
            command.arg("-p").arg(&home).arg("-c").arg(&config);
            command.args(["-e", "stderr"]).stdin(Stdio::null()).stdout(Stdio::null());
            command.spawn().with_context(|| {
                format!(
                    "cannot start {}: install it (`apt-get install nginx`), name it with --nginx, \
                     or leave it out with --others h2,axum",
                    program.display()
                )
            })
        })?;
        let mut nginx = Self { child, address };
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = nginx.child.try_wait()? {
                bail!("nginx ended at start ({status}); its error is above");
            }
            if began.elapsed() > Duration::from_secs(10) {
                bail!("nginx does not listen at {address}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(nginx)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The configuration. `http2` beside the address is how versions before 1.25 are told; later ones
/// still take it.
fn text(address: SocketAddr, home: &Path, answer: &Answer) -> Result<String> {
    let body = &answer.body;
    if body.contains(['\'', '$', '\\', '\n']) {
        bail!("the answer has a character that an nginx string gives a meaning to");
    }
    let home = home.display();
    let mut fields = String::new();
    for (name, value) in &answer.fields {
        // It makes these two itself.
        if name != "content-length" && name != "content-type" {
            fields.push_str(&format!("add_header {name} '{value}' always;\n"));
        }
    }
    Ok(format!(
        "daemon off;\nmaster_process off;\npid {home}/pid;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\naccess_log off;\nserver_tokens off;\ndefault_type application/json;\n\
         client_body_temp_path {home}/body;\nproxy_temp_path {home}/proxy;\n\
         fastcgi_temp_path {home}/fastcgi;\nuwsgi_temp_path {home}/uwsgi;\n\
         scgi_temp_path {home}/scgi;\nkeepalive_requests 1000000000;\n\
         http2_max_concurrent_streams 1000;\n\
         server {{\nlisten {address} http2;\nlocation / {{\n{fields}return 202 '{body}';\n}}\n}}\n}}\n"
    ))
}
