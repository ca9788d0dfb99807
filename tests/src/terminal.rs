//! A terminal of a given width, and the output of a command on it.

use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};
use std::{
    ffi::OsStr,
    fs::{File, OpenOptions},
    io::Read as _,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

/// A command with standard output and error on a terminal.
#[derive(Debug)]
pub struct OnTerminal {
    child: Child,
    shown: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl OnTerminal {
    /// Starts a command on a terminal with this many columns, without colours.
    pub fn start(mut command: Command, columns: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let name = OsStr::from_bytes(name.as_bytes());
        let terminal = OpenOptions::new().read(true).write(true).open(name).unwrap();
        command.env("NO_COLOR", "1").stdin(Stdio::null());
        command.stdout(terminal.try_clone().unwrap()).stderr(terminal);
        let child = command.spawn().unwrap();
        // Closes the copies here, so that reading ends with the command.
        drop(command);
        let shown = Arc::<Mutex<Vec<u8>>>::default();
        let reader = std::thread::spawn({
            let shown = Arc::clone(&shown);
            move || read(master, &shown)
        });
        Self { child, shown, reader: Some(reader) }
    }

    /// The output so far.
    pub fn shown(&self) -> String {
        let shown = self.shown.lock().unwrap();
        String::from_utf8_lossy(&shown).replace("\r\n", "\n")
    }

    /// Waits for its end. Returns the exit code and the output.
    pub fn end(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().unwrap().code();
        self.reader.take().unwrap().join().unwrap();
        (code, self.shown())
    }
}

fn read(master: OwnedFd, shown: &Mutex<Vec<u8>>) {
    let (mut master, mut bytes) = (File::from(master), [0; 4096]);
    // Reading fails once the terminal is closed.
    while let Ok(count @ 1..) = master.read(&mut bytes) {
        shown.lock().unwrap().extend_from_slice(&bytes[..count]);
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
