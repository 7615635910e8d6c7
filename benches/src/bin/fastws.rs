//! The fastwebsockets crate (of Deno) as a server: a task per connection, reading; whoever speaks to everybody writes
//! to all. The handshake is done by hand, so that no HTTP library stays behind in a task.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::bail;
use bytes::BytesMut;
use clap::Parser;
use fastwebsockets::{Frame, OpCode, Payload, Role, WebSocket, WebSocketError, WebSocketWrite};
use roost_benches::peer::{Place, is_to_all};
use roost_wire::ws::handshake::{Request, parse_request, write_accept};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(about = "A server on the fastwebsockets crate that benches compare Roost with")]
struct Args {
    #[command(flatten)]
    place: Place,
}

type Writer = Arc<tokio::sync::Mutex<WebSocketWrite<OwnedWriteHalf>>>;

#[derive(Default)]
struct Hall(Mutex<(u64, HashMap<u64, Writer>)>);

impl Hall {
    fn with<T>(&self, work: impl FnOnce(&mut (u64, HashMap<u64, Writer>)) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn enter(&self, writer: Writer) -> u64 {
        self.with(|(next, members)| {
            *next += 1;
            members.insert(*next, writer);
            *next
        })
    }

    fn everybody(&self) -> Vec<Writer> {
        self.with(|(_, members)| members.values().cloned().collect())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let place = Args::parse().place;
    let listener = place.listen()?;
    place.ready(&listener)?;
    let (listener, hall) = (TcpListener::from_std(listener)?, Arc::new(Hall::default()));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let hall = Arc::clone(&hall);
                // A connection that fails is a client that left.
                tokio::spawn(async move { drop(Box::pin(serve(stream, &hall)).await) });
            }
            // Out of descriptors, most likely: give connections time to end.
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
        }
    }
}

async fn shake_hands(stream: &mut TcpStream) -> anyhow::Result<()> {
    let mut head = BytesMut::with_capacity(1024);
    loop {
        if stream.read_buf(&mut head).await? == 0 {
            bail!("the end");
        }
        match parse_request(&head)? {
            None => {}
            Some((Request::Upgrade(upgrade), _)) => {
                let mut answer = BytesMut::with_capacity(256);
                write_accept(upgrade.key, None, &mut answer);
                stream.write_all(&answer).await?;
                return Ok(());
            }
            Some(_) => bail!("no upgrade"),
        }
    }
}

async fn serve(mut stream: TcpStream, hall: &Hall) -> anyhow::Result<()> {
    Box::pin(shake_hands(&mut stream)).await?;
    let (mut reader, writer) = WebSocket::after_handshake(stream, Role::Server).split(TcpStream::into_split);
    let writer: Writer = Arc::new(tokio::sync::Mutex::new(writer));
    let member = hall.enter(Arc::clone(&writer));
    let result = loop {
        let answer = &writer;
        let frame = reader.read_frame(&mut |frame| async move { answer.lock().await.write_frame(frame).await }).await;
        let frame = match frame {
            Ok(frame) if matches!(frame.opcode, OpCode::Text | OpCode::Binary) => frame,
            Ok(frame) if frame.opcode == OpCode::Close => break Ok(()),
            Ok(_) => continue,
            Err(error) => break Err(error),
        };
        if !is_to_all(&frame.payload) {
            // A frame that was read still has its mask.
            let echo = Frame::new(true, frame.opcode, None, frame.payload);
            if let Err(error) = writer.lock().await.write_frame(echo).await {
                break Err::<(), WebSocketError>(error);
            }
            continue;
        }
        for writer in hall.everybody() {
            let copy = Frame::new(true, frame.opcode, None, Payload::Borrowed(&frame.payload));
            // Who is gone ends in its own task.
            let _ = writer.lock().await.write_frame(copy).await;
        }
    };
    hall.with(|(_, members)| members.remove(&member));
    Ok(result?)
}
